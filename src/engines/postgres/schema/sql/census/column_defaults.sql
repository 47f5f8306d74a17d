-- Defaults of columns, with the relation; expressions of generated columns stand in its definition.
SELECT
    2604::oid AS class,
    o.oid,
    CASE WHEN a.attgenerated <> '' THEN 1259::oid ELSE 0::oid END AS via_class,
    o.adrelid AS via_oid,
    1259::oid AS whole_class,
    o.adrelid AS whole_oid,
    n.nspname::text AS schema,
    c.relname || ' ' || a.attname AS name
FROM pg_catalog.pg_attrdef o
JOIN pg_catalog.pg_class c ON c.oid = o.adrelid AND c.relpersistence <> 't'
JOIN pg_catalog.pg_namespace n
    ON n.oid = c.relnamespace
    AND n.nspname !~ '^pg_(temp|toast)'
    AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)
JOIN pg_catalog.pg_attribute a ON a.attrelid = o.adrelid AND a.attnum = o.adnum
WHERE o.oid >= 16384
