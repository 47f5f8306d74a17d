-- Materialized views, with the settings of their columns as they stand after ALTER COLUMN.
-- The two lists about options of columns go together: one entry an option.
-- Parameters: $1 their oids.
-- Versions: 13 has no compression of columns.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.relname::text AS name,
    pg_catalog.pg_get_viewdef(c.oid) AS definition,
    c.reloptions AS options,
    t.reloptions AS toast_options,
    am.amname::text AS method,
    ts.spcname::text AS tablespace,
    pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    ARRAY(
        SELECT pg_catalog.quote_ident(a.attname) || ' SET ' || x.what
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid,
            LATERAL (
                VALUES
                    (CASE WHEN a.attstattarget >= 0 THEN 'STATISTICS ' || a.attstattarget END),
                    (
                        CASE
                            WHEN a.attstorage <> t.typstorage THEN 'STORAGE ' || CASE a.attstorage
                                WHEN 'p' THEN 'PLAIN'
                                WHEN 'e' THEN 'EXTERNAL'
                                WHEN 'x' THEN 'EXTENDED'
                                ELSE 'MAIN'
                            END
                        END
                    ),
                    -- since 14
                    ('COMPRESSION ' || CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END)
                    -- before 14
                    (NULL)
                    -- end
            ) x(what)
        WHERE a.attrelid = c.oid
          AND a.attnum > 0
          AND NOT a.attisdropped
          AND x.what IS NOT NULL
        ORDER BY a.attnum
    ) AS settings,
    ARRAY(
        SELECT e.extname::text
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND d.objid = c.oid
          AND d.deptype = 'x'
          AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
        ORDER BY e.extname::text
    ) AS needed_extensions,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_attribute a,
            pg_catalog.unnest(a.attoptions) x(stored)
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum, x.stored
    ) AS optioned_columns,
    ARRAY(
        SELECT x.stored
        FROM pg_catalog.pg_attribute a,
            pg_catalog.unnest(a.attoptions) x(stored)
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum, x.stored
    ) AS column_options
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace
WHERE c.oid = ANY($1::oid[])
