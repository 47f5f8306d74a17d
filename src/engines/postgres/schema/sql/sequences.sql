-- Sequences, with the column that owns each: ownership is i for an identity column, a for OWNED BY.
-- Parameters: $1 their oids.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.relname::text AS name,
    c.relpersistence::text AS persistence,
    pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    pg_catalog.format_type(s.seqtypid, NULL) AS type,
    s.seqstart AS start_value,
    s.seqincrement AS increment,
    s.seqmax AS max_value,
    s.seqmin AS min_value,
    s.seqcache AS cache,
    s.seqcycle AS cycles,
    d.deptype::text AS ownership,
    tn.nspname::text AS table_schema,
    t.relname::text AS table_name,
    a.attname::text AS column_name,
    a.attidentity::text AS identity,
    t.relpersistence::text AS table_persistence
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
LEFT JOIN pg_catalog.pg_depend d
    ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND d.objid = c.oid
    AND d.objsubid = 0
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND d.refobjsubid > 0
    AND d.deptype IN ('a', 'i')
LEFT JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE c.oid = ANY($1::oid[])
