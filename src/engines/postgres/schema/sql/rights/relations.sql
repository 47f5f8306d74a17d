-- Rights to relations and their columns; sub is the number of the column.
-- side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty
-- list.
-- Parameters: $1 their oids.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.relowner)::text AS owner,
    '' AS signature,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name
FROM pg_catalog.pg_class o,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            '' AS column_name,
            pg_catalog.acldefault(
                (CASE WHEN o.relkind = 'S' THEN 's' ELSE 'r' END)::"char",
                o.relowner
            ) AS list
        UNION ALL
        SELECT
            1,
            0,
            '',
            COALESCE(
                o.relacl,
                pg_catalog.acldefault(
                    (CASE WHEN o.relkind = 'S' THEN 's' ELSE 'r' END)::"char",
                    o.relowner
                )
            )
        UNION ALL
        SELECT
            1,
            a.attnum::int4,
            a.attname::text,
            a.attacl
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = o.oid
          AND a.attacl IS NOT NULL
          AND NOT a.attisdropped
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.oid = ANY($1::oid[])
ORDER BY o.oid, l.sub, l.side, x.place
