-- Views.
-- Parameters: $1 their oids.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.relname::text AS name,
    pg_catalog.pg_get_viewdef(c.oid) AS definition,
    c.reloptions AS options,
    pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY($1::oid[])
