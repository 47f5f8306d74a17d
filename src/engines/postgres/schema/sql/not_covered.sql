-- Numbers of objects that a backup does not carry: one row a class.
-- Parameters: $1 name for rows of unlogged tables, which a standby does not have; $2 name for indexes that a
-- failed CREATE INDEX CONCURRENTLY left, or that are being made.
SELECT 'subscriptions' AS what, pg_catalog.count(*) AS number
FROM pg_catalog.pg_subscription s
JOIN pg_catalog.pg_database b ON b.oid = s.subdbid
WHERE b.datname = pg_catalog.current_database()
  AND NOT pg_catalog.has_column_privilege('pg_catalog.pg_subscription', 'subconninfo', 'SELECT')
UNION ALL
SELECT $1::text, pg_catalog.count(*)
FROM pg_catalog.pg_class c
WHERE c.relkind = 'r'
  AND c.relpersistence = 'u'
  AND c.oid >= 16384
  AND pg_catalog.pg_is_in_recovery()
UNION ALL
SELECT $2::text, pg_catalog.count(*)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE c.relkind = 'i'
  AND NOT (i.indisready AND i.indisvalid)
  AND c.oid >= 16384
