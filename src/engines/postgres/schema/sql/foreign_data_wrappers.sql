-- Foreign data wrappers.
-- Parameters: $1 their oids.
SELECT
    w.oid,
    w.fdwname::text AS name,
    NULLIF(w.fdwhandler, 0)::pg_catalog.regproc::text AS handler,
    NULLIF(w.fdwvalidator, 0)::pg_catalog.regproc::text AS validator,
    w.fdwoptions AS options,
    pg_catalog.pg_get_userbyid(w.fdwowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = w.oid
          AND ds.classoid = 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_foreign_data_wrapper w
WHERE w.oid = ANY($1::oid[])
