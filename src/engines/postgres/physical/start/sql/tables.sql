-- Tables of a database: those of the catalog, and of all others some at random that are not too large to be read now.
-- Parameters of this program: :bytes, the largest size; :tables, how many.
(SELECT
    true AS is_catalog,
    pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'pg_catalog' AND c.relkind = 'r')
UNION ALL
(SELECT
    false AS is_catalog,
    pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND pg_catalog.pg_table_size(c.oid) <= :bytes
ORDER BY pg_catalog.random()
LIMIT :tables)
