-- Changed rights to relations that this backup does not create.
-- The rights of the information schema are given when a cluster is made, but not noted as initial ones. side: 0
-- for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty list.
-- Rights that an object had when it was made are in pg_init_privs, else the built-in default. The objects are
-- chosen before anything else is looked at, and by one pass over the dependencies: with very many tables the
-- rest costs more.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.relowner)::text AS owner,
    (CASE WHEN o.relkind = 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END)
        || pg_catalog.quote_ident(rn.nspname)
        || '.'
        || pg_catalog.quote_ident(o.relname) AS object,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name
FROM (
    SELECT m.*
    FROM pg_catalog.pg_class m
    WHERE m.oid < 16384
      OR m.oid IN (
          SELECT e.objid
          FROM pg_catalog.pg_depend e
          WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.deptype = 'e'
      )
    OFFSET 0
) o
JOIN pg_catalog.pg_namespace rn ON rn.oid = o.relnamespace
LEFT JOIN pg_catalog.pg_init_privs i
    ON i.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.objoid = o.oid AND i.objsubid = 0,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            ''::text AS column_name,
            COALESCE(
                i.initprivs,
                pg_catalog.acldefault(
                    (CASE WHEN o.relkind = 'S' THEN 's' ELSE 'r' END)::"char",
                    o.relowner
                )
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
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.relacl::text IS DISTINCT FROM i.initprivs::text
  AND o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND rn.nspname <> 'information_schema'
ORDER BY o.oid, l.side, x.place
