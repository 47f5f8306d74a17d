-- Foreign servers.
-- Parameters: $1 their oids.
SELECT
    s.oid,
    s.srvname::text AS name,
    s.srvtype AS type,
    s.srvversion AS version,
    w.fdwname::text AS wrapper,
    s.srvoptions AS options,
    pg_catalog.pg_get_userbyid(s.srvowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = s.oid
          AND ds.classoid = 'pg_catalog.pg_foreign_server'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_foreign_server s
JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
WHERE s.oid = ANY($1::oid[])
