-- Places that tables have below partitioned ones that stay. :oids is the array of the tables.
SELECT
    n.nspname AS schema,
    c.relname AS name,
    i.inhparent::pg_catalog.regclass AS parent,
    pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
WHERE c.relispartition
  AND c.oid = ANY (:oids)
  AND NOT i.inhparent = ANY (:oids)
ORDER BY schema, name
