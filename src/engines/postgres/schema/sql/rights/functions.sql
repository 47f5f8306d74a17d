-- Rights to functions, procedures and aggregates; their signature is what identifies them.
-- side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty
-- list.
-- Parameters: $1 their oids.
-- Versions: 13 to 18 alike.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.proowner)::text AS owner,
    pg_catalog.pg_get_function_identity_arguments(o.oid) AS signature,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name
FROM pg_catalog.pg_proc o,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            '' AS column_name,
            pg_catalog.acldefault('f', o.proowner) AS list
        UNION ALL
        SELECT
            1,
            0,
            '',
            COALESCE(o.proacl, pg_catalog.acldefault('f', o.proowner))
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.oid = ANY($1::oid[])
ORDER BY o.oid, l.sub, l.side, x.place
