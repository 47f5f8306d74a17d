-- Partitions with the table that each is a part of.
-- Parameters: $1 their oids.
SELECT
    c.oid,
    i.inhparent AS parent,
    pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
WHERE c.oid = ANY($1::oid[])
