-- Array types of other types.
SELECT
    1247::oid AS class,
    t.typarray AS oid,
    1247::oid AS of_class,
    t.oid AS of_oid
FROM pg_catalog.pg_type t
WHERE t.typarray <> 0 AND t.oid >= 16384
