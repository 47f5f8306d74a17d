-- Schemas of users, and public.
SELECT
    n.oid,
    'n' AS tag,
    0::oid AS schema,
    n.nspname::text AS name,
    0::oid AS parent,
    0 AS flags,
    n.nspacl IS NOT NULL AS has_acl
FROM pg_catalog.pg_namespace n
WHERE (n.oid >= 16384 OR n.nspname = 'public')
  AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND d.objid = n.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
