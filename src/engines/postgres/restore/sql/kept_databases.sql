-- Databases whose names begin with :prefix and that have no mark of this program.
SELECT datname AS name
FROM pg_catalog.pg_database
WHERE pg_catalog.starts_with(datname::text, :prefix)
  AND COALESCE(
      pg_catalog.strpos(pg_catalog.shobj_description(oid, 'pg_database'), 'wirevault kept '),
      0
  ) = 0
ORDER BY datname DESC
