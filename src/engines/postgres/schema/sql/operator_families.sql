-- Operator families.
-- Parameters: $1 their oids.
SELECT
    f.oid,
    n.nspname::text AS schema,
    f.opfname::text AS name,
    a.amname::text AS method,
    pg_catalog.pg_get_userbyid(f.opfowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = f.oid
          AND ds.classoid = 'pg_catalog.pg_opfamily'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_opfamily f
JOIN pg_catalog.pg_namespace n ON n.oid = f.opfnamespace
JOIN pg_catalog.pg_am a ON a.oid = f.opfmethod
WHERE f.oid = ANY($1::oid[])
