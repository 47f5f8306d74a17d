-- Databases whose names begin with :prefix, and whose comments with :comment.
SELECT oid, datname AS name
FROM pg_catalog.pg_database
WHERE pg_catalog.starts_with(datname::text, :prefix)
  AND pg_catalog.starts_with(pg_catalog.shobj_description(oid, 'pg_database'), :comment)
