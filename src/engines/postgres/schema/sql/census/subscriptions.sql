-- Subscriptions of this database; names are unique in a database only, and the catalog is one for all.
SELECT
    6100::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    0::oid AS whole_class,
    0::oid AS whole_oid,
    NULL::text AS schema,
    o.subname::text AS name
FROM pg_catalog.pg_subscription o
JOIN pg_catalog.pg_database d ON d.oid = o.subdbid
WHERE d.datname = pg_catalog.current_database()
