-- First of each batch of large objects whose content the role may read.
-- Parameters: $1 objects of a batch.
-- Versions: 13 to 18 alike.
SELECT t.oid
FROM (
    SELECT o.oid, pg_catalog.row_number() OVER (ORDER BY o.oid) AS place
    FROM pg_catalog.pg_largeobject_metadata o
    WHERE (
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
) t
WHERE t.place % $1 = 1
ORDER BY t.oid
