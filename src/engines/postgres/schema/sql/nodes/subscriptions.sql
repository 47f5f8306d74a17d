-- Subscriptions of this database. The catalog is one for all databases.
SELECT
    s.oid,
    'z' AS tag,
    0::oid AS schema,
    s.subname::text AS name,
    0::oid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_subscription s
JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = pg_catalog.current_database()
