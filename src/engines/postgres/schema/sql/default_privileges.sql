-- Default privileges: those of a schema are differences from nothing, global ones from the built-in defaults.
-- side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty
-- list.
SELECT
    d.oid,
    pg_catalog.pg_get_userbyid(d.defaclrole)::text AS role,
    n.nspname::text AS schema,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    d.defaclobjtype::text AS object_type,
    (
        SELECT pg_catalog.count(*)
        FROM pg_catalog.aclexplode(
            pg_catalog.acldefault(
                (CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END)::"char",
                d.defaclrole
            )
        ) o
        WHERE o.grantee = d.defaclrole
    )::int4 AS owner_privileges
FROM pg_catalog.pg_default_acl d
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace,
    LATERAL (
        SELECT
            0 AS side,
            CASE
                WHEN d.defaclnamespace = 0 THEN pg_catalog.acldefault(
                    (CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END)::"char",
                    d.defaclrole
                )
            END AS list
        UNION ALL
        SELECT 1, d.defaclacl
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
ORDER BY schema NULLS FIRST, role, object_type, l.side, x.place
