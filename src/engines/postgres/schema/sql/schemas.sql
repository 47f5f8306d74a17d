-- Schemas.
-- Parameters: $1 their oids.
SELECT
    n.oid,
    n.nspname::text AS name,
    pg_catalog.pg_get_userbyid(n.nspowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = n.oid
          AND ds.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_namespace n
WHERE n.oid = ANY($1::oid[])
