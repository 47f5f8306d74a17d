-- Tables whose rows a backup of this server has; unlogged ones cannot be read on a standby.
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n
    ON n.oid = c.relnamespace
    AND n.nspname !~ '^pg_(temp|toast)'
    AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)
WHERE c.relkind = 'r'
  AND c.oid >= 16384
  AND c.relpersistence <> 't'
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND d.objid = c.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
  AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
