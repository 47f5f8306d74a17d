-- Indexes that are a partition of another index.
-- Parameters: $1 their oids.
SELECT
    c.oid,
    cn.nspname::text AS schema,
    c.relname::text AS name,
    pn.nspname::text AS parent_schema,
    p.relname::text AS parent_name
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE i.inhrelid = ANY($1::oid[])
