-- Changed rights to schemas that this backup does not create; public is one of its own.
-- The use that everybody has of the information schema is given when a cluster is made, but not noted as
-- initial. side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege:
-- an empty list. Rights that an object had when it was made are in pg_init_privs, else the built-in default.
-- The objects are chosen before anything else is looked at, and by one pass over the dependencies: with very
-- many tables the rest costs more.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.nspowner)::text AS owner,
    'SCHEMA ' || pg_catalog.quote_ident(o.nspname) AS object,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name
FROM (
    SELECT m.*
    FROM pg_catalog.pg_namespace m
    WHERE m.oid < 16384
      OR m.oid IN (
          SELECT e.objid
          FROM pg_catalog.pg_depend e
          WHERE e.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND e.deptype = 'e'
      )
    OFFSET 0
) o
LEFT JOIN pg_catalog.pg_init_privs i
    ON i.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
    AND i.objoid = o.oid
    AND i.objsubid = 0,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            ''::text AS column_name,
            COALESCE(
                i.initprivs,
                pg_catalog.acldefault('n', o.nspowner) || CASE o.nspname
                    WHEN 'information_schema' THEN ARRAY[
                        pg_catalog.makeaclitem(0, o.nspowner, 'USAGE', false)
                    ]
                    ELSE '{}'::pg_catalog.aclitem[]
                END
            ) AS list
        UNION ALL
        SELECT
            1,
            0,
            '',
            COALESCE(o.nspacl, pg_catalog.acldefault('n', o.nspowner))
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.nspacl::text IS DISTINCT FROM i.initprivs::text AND o.nspname <> 'public'
ORDER BY o.oid, l.side, x.place
