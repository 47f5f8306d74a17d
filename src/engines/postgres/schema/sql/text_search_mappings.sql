-- Token types of text search configurations, each with its dictionaries in order.
-- Parameters: $1 oids of the configurations.
SELECT
    m.mapcfg AS configuration,
    k.alias AS token,
    pg_catalog.string_agg(
        pg_catalog.quote_ident(dn.nspname) || '.' || pg_catalog.quote_ident(d.dictname),
        ', ' ORDER BY m.mapseqno
    ) AS dictionaries
FROM pg_catalog.pg_ts_config c
JOIN pg_catalog.pg_ts_config_map m ON m.mapcfg = c.oid
JOIN LATERAL pg_catalog.ts_token_type(c.cfgparser) k ON k.tokid = m.maptokentype
JOIN pg_catalog.pg_ts_dict d ON d.oid = m.mapdict
JOIN pg_catalog.pg_namespace dn ON dn.oid = d.dictnamespace
WHERE c.oid = ANY($1::oid[])
GROUP BY m.mapcfg, m.maptokentype, k.alias
ORDER BY m.mapcfg, m.maptokentype
