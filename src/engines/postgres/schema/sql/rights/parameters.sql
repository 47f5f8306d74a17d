-- Rights to set parameters, but for those of the role that made the cluster.
-- Versions: 15 and newer.
SELECT
    p.parname AS parameter,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee
FROM pg_catalog.pg_parameter_acl p,
    pg_catalog.aclexplode(p.paracl) x
WHERE x.grantee <> 10
ORDER BY p.parname
