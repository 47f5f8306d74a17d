-- Extensions.
-- Parameters: $1 their oids.
SELECT
    e.oid,
    e.extname::text AS name,
    n.nspname::text AS schema,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = e.oid
          AND ds.classoid = 'pg_catalog.pg_extension'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.oid = ANY($1::oid[])
