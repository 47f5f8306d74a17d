-- Rights to schemas.
-- side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty
-- list. A new database gives public to everybody for use, and before 15 for CREATE: from there the first side
-- is never what is wanted, so that the rights are taken and given whatever the target's version.
-- Parameters: $1 their oids.
-- Versions: everybody may create in public before 15.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.nspowner)::text AS owner,
    '' AS signature,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name
FROM pg_catalog.pg_namespace o,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            '' AS column_name,
            pg_catalog.acldefault('n', o.nspowner)
                || CASE
                    WHEN o.nspname = 'public' THEN ARRAY[
                        pg_catalog.makeaclitem(0, o.nspowner, 'USAGE', false)
                    ]
                    ELSE '{}'::aclitem[]
                END
                -- before 15
                || CASE
                    WHEN o.nspname = 'public'
                        AND NOT EXISTS (
                            SELECT 1
                            FROM pg_catalog.aclexplode(
                                COALESCE(o.nspacl, pg_catalog.acldefault('n', o.nspowner))
                            ) e
                            WHERE e.grantee = 0 AND e.privilege_type = 'CREATE'
                        ) THEN ARRAY[pg_catalog.makeaclitem(0, o.nspowner, 'CREATE', false)]
                    ELSE '{}'::aclitem[]
                END
                -- end
                AS list
        UNION ALL
        SELECT
            1,
            0,
            '',
            COALESCE(o.nspacl, pg_catalog.acldefault('n', o.nspowner))
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.oid = ANY($1::oid[])
ORDER BY o.oid, l.sub, l.side, x.place
