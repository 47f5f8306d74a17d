-- Multiranges and their arrays, which hang on their range.
-- Versions: 14 and newer.
SELECT
    1247::oid AS class,
    r.rngmultitypid AS oid,
    1247::oid AS of_class,
    r.rngtypid AS of_oid
FROM pg_catalog.pg_range r
WHERE r.rngtypid >= 16384
UNION ALL
SELECT
    1247::oid,
    t.typarray,
    1247::oid,
    r.rngtypid
FROM pg_catalog.pg_range r
JOIN pg_catalog.pg_type t ON t.oid = r.rngmultitypid
WHERE r.rngtypid >= 16384
