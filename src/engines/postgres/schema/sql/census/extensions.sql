-- Extensions.
SELECT
    3079::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    0::oid AS whole_class,
    0::oid AS whole_oid,
    NULL::text AS schema,
    o.extname::text AS name
FROM pg_catalog.pg_extension o
WHERE o.oid >= 16384
