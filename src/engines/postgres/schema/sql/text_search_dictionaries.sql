-- Text search dictionaries; their options in the form in which they are written.
-- Parameters: $1 their oids.
SELECT
    d.oid,
    n.nspname::text AS schema,
    d.dictname::text AS name,
    pg_catalog.pg_get_userbyid(d.dictowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = d.oid
          AND ds.classoid = 'pg_catalog.pg_ts_dict'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    tn.nspname::text AS template_schema,
    t.tmplname::text AS template_name,
    d.dictinitoption AS options
FROM pg_catalog.pg_ts_dict d
JOIN pg_catalog.pg_namespace n ON n.oid = d.dictnamespace
JOIN pg_catalog.pg_ts_template t ON t.oid = d.dicttemplate
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.tmplnamespace
WHERE d.oid = ANY($1::oid[])
