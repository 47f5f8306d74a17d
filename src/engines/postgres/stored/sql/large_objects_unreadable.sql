-- Large objects whose content the role may not read, and how many these are.
-- Parameters: $1 number of objects.
-- Versions: 13 to 18 alike.
SELECT o.oid, pg_catalog.count(*) OVER () AS total
FROM pg_catalog.pg_largeobject_metadata o
WHERE NOT (
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
ORDER BY o.oid
LIMIT $1
