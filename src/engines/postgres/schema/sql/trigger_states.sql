-- Triggers that partitions have from their parent, in a state of their own.
-- Parameters: $1 their oids.
SELECT
    t.oid,
    t.tgname::text AS name,
    t.tgenabled::text AS state,
    n.nspname::text AS schema,
    c.relname::text AS table_name
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.oid = ANY($1::oid[])
