-- Operators of operator families.
SELECT
    2602::oid AS class,
    o.oid,
    2753::oid AS of_class,
    o.amopfamily AS of_oid
FROM pg_catalog.pg_amop o
WHERE o.oid >= 16384
