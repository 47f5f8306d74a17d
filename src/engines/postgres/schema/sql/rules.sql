-- Rules of tables and views. None can depend on an extension.
-- Parameters: $1 their oids.
SELECT
    r.oid,
    pg_catalog.pg_get_ruledef(r.oid) AS definition,
    r.ev_enabled::text AS state,
    r.rulename::text AS name,
    n.nspname::text AS schema,
    c.relname::text AS table_name,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = r.oid
          AND ds.classoid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    NULL::text[] AS needed_extensions
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE r.oid = ANY($1::oid[])
