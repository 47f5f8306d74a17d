-- Text search configurations.
-- Parameters: $1 their oids.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.cfgname::text AS name,
    pg_catalog.pg_get_userbyid(c.cfgowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_ts_config'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    pn.nspname::text AS parser_schema,
    p.prsname::text AS parser_name
FROM pg_catalog.pg_ts_config c
JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace
JOIN pg_catalog.pg_ts_parser p ON p.oid = c.cfgparser
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.prsnamespace
WHERE c.oid = ANY($1::oid[])
