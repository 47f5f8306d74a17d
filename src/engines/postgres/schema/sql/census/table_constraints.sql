-- Constraints of tables, with the table that each is a part of. What is inherited, cloned or a column's NOT
-- NULL stands with its table; a trigger's is the trigger.
SELECT
    2606::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    1259::oid AS whole_class,
    o.conrelid AS whole_oid,
    n.nspname::text AS schema,
    c.relname || ' ' || o.conname AS name
FROM pg_catalog.pg_constraint o
JOIN pg_catalog.pg_class c ON c.oid = o.conrelid AND c.relpersistence <> 't'
JOIN pg_catalog.pg_namespace n
    ON n.oid = c.relnamespace
    AND n.nspname !~ '^pg_(temp|toast)'
    AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)
WHERE o.oid >= 16384
  AND (
      o.contype IN ('p', 'u', 'x')
      OR (o.contype = 'f' AND o.conparentid = 0)
      OR (o.contype = 'c' AND o.conislocal)
      OR (o.contype = 'n' AND o.conislocal AND NOT o.convalidated)
  )
