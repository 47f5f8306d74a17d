-- Relations that exist. :names are rows of schema and name.
SELECT
    n.nspname AS schema,
    c.relname AS name,
    c.oid,
    c.relkind AS kind
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname::text, c.relname::text) IN (:names)
ORDER BY schema, name
