-- Access methods.
-- Parameters: $1 their oids.
SELECT
    a.oid,
    a.amname::text AS name,
    a.amtype::text AS type,
    a.amhandler::text AS handler,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = a.oid
          AND ds.classoid = 'pg_catalog.pg_am'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_am a
WHERE a.oid = ANY($1::oid[])
