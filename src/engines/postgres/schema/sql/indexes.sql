-- Indexes that no constraint makes.
-- Parameters: $1 their oids.
SELECT
    i.indexrelid AS oid,
    pg_catalog.pg_get_indexdef(i.indexrelid) AS definition,
    n.nspname::text AS schema,
    c.relname::text AS name,
    tn.nspname::text AS table_schema,
    t.relname::text AS table_name,
    i.indisclustered AS clustered,
    i.indisreplident AS replica_identity,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    ts.spcname::text AS tablespace,
    ARRAY(
        SELECT a.attnum || ' ' || a.attstattarget
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attstattarget >= 0
        ORDER BY a.attnum
    ) AS statistics_targets,
    ARRAY(
        SELECT e.extname::text
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND d.objid = c.oid
          AND d.deptype = 'x'
          AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
        ORDER BY e.extname::text
    ) AS needed_extensions
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace
WHERE i.indexrelid = ANY($1::oid[])
