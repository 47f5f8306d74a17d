-- Row types of relations.
SELECT
    1247::oid AS class,
    c.reltype AS oid,
    1259::oid AS of_class,
    c.oid AS of_oid
FROM pg_catalog.pg_class c
WHERE c.reltype <> 0 AND c.relkind <> 'c' AND c.oid >= 16384
