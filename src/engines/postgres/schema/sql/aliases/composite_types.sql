-- Relations of composite types.
SELECT
    1259::oid AS class,
    c.oid,
    1247::oid AS of_class,
    c.reltype AS of_oid
FROM pg_catalog.pg_class c
WHERE c.relkind = 'c' AND c.oid >= 16384
