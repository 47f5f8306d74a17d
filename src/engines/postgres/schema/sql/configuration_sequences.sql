-- Sequences whose values extensions ask to be dumped.
SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid
FROM pg_catalog.pg_extension e,
    pg_catalog.unnest(e.extconfig) u(oid)
JOIN pg_catalog.pg_class c ON c.oid = u.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S'
ORDER BY schema, name
