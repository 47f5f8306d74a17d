-- Memberships of roles, but for those between built-in ones.
-- by_bootstrap: given by the role that made the cluster, or by one that is gone.
-- Versions: the options INHERIT and SET from 16 on.
SELECT
    r.rolname::text AS role,
    u.rolname::text AS member,
    g.rolname::text AS grantor,
    m.admin_option AS admin,
    -- since 16
    m.inherit_option AS inherits,
    m.set_option AS sets,
    -- before 16
    NULL::bool AS inherits,
    NULL::bool AS sets,
    -- end
    COALESCE(g.oid = 10, true) AS by_bootstrap
FROM pg_catalog.pg_auth_members m
JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
JOIN pg_catalog.pg_roles u ON u.oid = m.member
LEFT JOIN pg_catalog.pg_roles g ON g.oid = m.grantor
WHERE NOT (r.rolname ~ '^pg_' AND u.rolname ~ '^pg_')
ORDER BY role, member, grantor
