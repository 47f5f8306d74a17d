-- Numbers of large objects and of security labels.
-- Parameters: $1 whether only objects whose content the role may read count.
-- Versions: 13 to 18 alike.
SELECT
    (
        SELECT pg_catalog.count(*)
        FROM pg_catalog.pg_largeobject_metadata o
        WHERE NOT $1
          OR (
              pg_catalog.current_setting('lo_compat_privileges') = 'on'
              OR (
                  SELECT r.rolsuper
                  FROM pg_catalog.pg_roles r
                  WHERE r.rolname = current_user
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.aclexplode(
                      COALESCE(o.lomacl, pg_catalog.acldefault('L', o.lomowner))
                  ) x
                  WHERE x.privilege_type = 'SELECT'
                    AND CASE
                        WHEN x.grantee = 0 THEN true
                        ELSE pg_catalog.pg_has_role(x.grantee, 'USAGE')
                    END
              )
          )
    ) AS large_objects,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_seclabel) AS labels
