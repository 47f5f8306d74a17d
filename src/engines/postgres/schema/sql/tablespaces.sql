-- Tablespaces with the rights to them, but for the built-in ones: one row a privilege.
-- side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty
-- list.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.spcowner)::text AS owner,
    o.spcname::text AS name,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name,
    pg_catalog.pg_tablespace_location(o.oid) AS location,
    o.spcoptions AS options,
    pg_catalog.shobj_description(o.oid, 'pg_tablespace') AS comment
FROM pg_catalog.pg_tablespace o,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            '' AS column_name,
            pg_catalog.acldefault('t', o.spcowner) AS list
        UNION ALL
        SELECT
            1,
            0,
            '',
            COALESCE(o.spcacl, pg_catalog.acldefault('t', o.spcowner))
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.oid >= 16384
ORDER BY o.spcname, l.side, x.place
