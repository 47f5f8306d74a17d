-- Tables that the role may not read, or not wholly. :wanted is the condition of what is not left out.
SELECT
    c.oid::pg_catalog.regclass::text AS name,
    pg_catalog.row_security_active(c.oid) AS hides_rows
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r'
  AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
  AND (
      NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
      OR NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
      OR pg_catalog.row_security_active(c.oid)
  )
  AND :wanted
LIMIT 20
