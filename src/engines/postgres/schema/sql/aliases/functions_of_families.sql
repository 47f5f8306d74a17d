-- Functions of operator families.
SELECT
    2603::oid AS class,
    o.oid,
    2753::oid AS of_class,
    o.amprocfamily AS of_oid
FROM pg_catalog.pg_amproc o
WHERE o.oid >= 16384
