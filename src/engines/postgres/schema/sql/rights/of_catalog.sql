-- Rights to objects of one catalog.
-- side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty
-- list. :catalog, its columns :owner_column and :acl_column, the :letter of acldefault, and the :signature that
-- identifies a function come from acl.rs.
-- Parameters: $1 their oids.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.:owner_column)::text AS owner,
    :signature AS signature,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name
FROM pg_catalog.:catalog o,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            '' AS column_name,
            pg_catalog.acldefault(:letter, o.:owner_column) AS list
        UNION ALL
        SELECT
            1,
            0,
            '',
            COALESCE(o.:acl_column, pg_catalog.acldefault(:letter, o.:owner_column))
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.oid = ANY($1::oid[])
ORDER BY o.oid, l.sub, l.side, x.place
