-- Enum types; their labels in order.
-- Parameters: $1 their oids.
SELECT
    t.oid,
    n.nspname::text AS schema,
    t.typname::text AS name,
    pg_catalog.pg_get_userbyid(t.typowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = t.oid
          AND ds.classoid = 'pg_catalog.pg_type'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    ARRAY(
        SELECT e.enumlabel::text
        FROM pg_catalog.pg_enum e
        WHERE e.enumtypid = t.oid
        ORDER BY e.enumsortorder
    ) AS labels
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid = ANY($1::oid[])
