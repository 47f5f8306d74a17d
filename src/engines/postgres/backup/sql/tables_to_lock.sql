-- Tables that are there now, may be read, and are not locked by a session. :held is held_tables.sql for it; :wanted
-- the condition of what is not left out; :limit a number of tables. Members of extensions have no rows in a backup,
-- unless the extension asks for them.
SELECT c.oid, n.nspname AS schema, c.relname AS name
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384
  AND c.relkind IN ('r', 'p')
  AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
  AND (
      c.oid IN (
          SELECT pg_catalog.unnest(e.extconfig)
          FROM pg_catalog.pg_extension e
      )
      OR NOT EXISTS (
          SELECT
          FROM pg_catalog.pg_depend d
          WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.objid = c.oid
            AND d.objsubid = 0
            AND d.deptype = 'e'
      )
  )
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
  AND :wanted
  AND NOT EXISTS (
      SELECT
      FROM (
          :held
      ) l
      WHERE l.relation = c.oid
  )
ORDER BY c.oid
LIMIT :limit
