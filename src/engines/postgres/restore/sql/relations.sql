-- The database's own relations c that meet :condition.
SELECT n.nspname AS schema, c.relname AS name
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE (:condition) AND c.oid >= 16384 AND n.nspname !~ '^pg_'
ORDER BY c.oid
