-- Number of large objects that the role may not read.
-- Versions: 13 to 18 alike.
SELECT pg_catalog.count(*) AS number
FROM pg_catalog.pg_largeobject_metadata o
WHERE NOT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')
  AND NOT (
      pg_catalog.current_setting('lo_compat_privileges') = 'on'
      OR (
          SELECT r.rolsuper
          FROM pg_catalog.pg_roles r
          WHERE r.rolname = current_user
      )
      OR EXISTS (
          SELECT
          FROM pg_catalog.aclexplode(COALESCE(o.lomacl, pg_catalog.acldefault('L', o.lomowner))) x
          WHERE x.privilege_type = 'SELECT'
            AND CASE WHEN x.grantee = 0 THEN true ELSE pg_catalog.pg_has_role(x.grantee, 'USAGE') END
      )
  )
