-- Rights to this database.
-- side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty
-- list.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.datdba)::text AS owner,
    o.datname::text AS name,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name
FROM pg_catalog.pg_database o,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            '' AS column_name,
            pg_catalog.acldefault('d', o.datdba) AS list
        UNION ALL
        SELECT
            1,
            0,
            '',
            COALESCE(o.datacl, pg_catalog.acldefault('d', o.datdba))
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.datname = pg_catalog.current_database()
ORDER BY l.side, x.place
