-- Rights to large objects.
-- side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty
-- list.
-- Parameters: $1 their oids.
SELECT
    o.oid,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name
FROM pg_catalog.pg_largeobject_metadata o,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            '' AS column_name,
            pg_catalog.acldefault('L', o.lomowner) AS list
        UNION ALL
        SELECT
            1,
            0,
            '',
            o.lomacl
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.oid = ANY($1::oid[])
ORDER BY o.oid, l.side, x.place
