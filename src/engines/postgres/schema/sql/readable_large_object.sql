-- Whether the role may read the content of a large object: a condition on a row o of pg_largeobject_metadata.
(
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
