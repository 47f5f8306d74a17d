-- CHECK constraints of domains, with the domain.
SELECT
    2606::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    1247::oid AS whole_class,
    o.contypid AS whole_oid,
    n.nspname::text AS schema,
    t.typname || ' ' || o.conname AS name
FROM pg_catalog.pg_constraint o
JOIN pg_catalog.pg_type t ON t.oid = o.contypid
JOIN pg_catalog.pg_namespace n
    ON n.oid = t.typnamespace
    AND n.nspname !~ '^pg_(temp|toast)'
    AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)
WHERE o.oid >= 16384 AND o.contype = 'c'
