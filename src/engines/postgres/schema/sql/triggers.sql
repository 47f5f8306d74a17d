-- Triggers of tables and views.
-- Parameters: $1 their oids.
SELECT
    t.oid,
    pg_catalog.pg_get_triggerdef(t.oid, false) AS definition,
    t.tgenabled::text AS state,
    t.tgname::text AS name,
    n.nspname::text AS schema,
    c.relname::text AS table_name,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = t.oid
          AND ds.classoid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    ARRAY(
        SELECT e.extname::text
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
          AND d.objid = t.oid
          AND d.deptype = 'x'
          AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
        ORDER BY e.extname::text
    ) AS needed_extensions
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.oid = ANY($1::oid[])
