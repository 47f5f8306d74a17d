-- Text search templates.
-- Parameters: $1 their oids.
SELECT
    o.oid,
    n.nspname::text AS schema,
    o.tmplname::text AS name,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = o.oid
          AND ds.classoid = 'pg_catalog.pg_ts_template'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    NULLIF(o.tmplinit::oid, 0)::pg_catalog.regproc::text AS init,
    NULLIF(o.tmpllexize::oid, 0)::pg_catalog.regproc::text AS lexize
FROM pg_catalog.pg_ts_template o
JOIN pg_catalog.pg_namespace n ON n.oid = o.tmplnamespace
WHERE o.oid = ANY($1::oid[])
