-- A page of large objects.
-- Parameters: $1 oid after which the page begins; $2 whether only objects whose content the role may read are
-- wanted; $3 number of objects.
-- Versions: 13 to 18 alike.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.lomowner)::text AS owner,
    d.description AS comment
FROM pg_catalog.pg_largeobject_metadata o
LEFT JOIN pg_catalog.pg_description d
    ON d.classoid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass
    AND d.objoid = o.oid
    AND d.objsubid = 0
WHERE o.oid > $1
  AND (
      NOT $2
      OR (
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
                AND CASE
                    WHEN x.grantee = 0 THEN true
                    ELSE pg_catalog.pg_has_role(x.grantee, 'USAGE')
                END
          )
      )
  )
ORDER BY o.oid
LIMIT $3
