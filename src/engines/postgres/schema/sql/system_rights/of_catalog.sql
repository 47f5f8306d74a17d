-- Changed rights to objects of one catalog that this backup does not create.
-- :catalog, its columns :owner_column and :acl_column, the :letter of acldefault, and the :object as GRANT
-- names it come from system_rights.rs. side: 0 for the rights that the object had when it was made, 1 for those
-- that it has. No privilege: an empty list. Rights that an object had when it was made are in pg_init_privs,
-- else the built-in default. The objects are chosen before anything else is looked at, and by one pass over the
-- dependencies: with very many tables the rest costs more.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.:owner_column)::text AS owner,
    :object AS object,
    CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
    pg_catalog.pg_get_userbyid(x.grantor)::text AS grantor,
    x.privilege_type AS privilege,
    x.is_grantable AS grantable,
    l.side,
    l.sub,
    l.column_name
FROM (
    SELECT m.*
    FROM pg_catalog.:catalog m
    WHERE m.oid < 16384
      OR m.oid IN (
          SELECT e.objid
          FROM pg_catalog.pg_depend e
          WHERE e.classid = 'pg_catalog.:catalog'::pg_catalog.regclass AND e.deptype = 'e'
      )
    OFFSET 0
) o
LEFT JOIN pg_catalog.pg_init_privs i
    ON i.classoid = 'pg_catalog.:catalog'::pg_catalog.regclass AND i.objoid = o.oid AND i.objsubid = 0,
    LATERAL (
        SELECT
            0 AS side,
            0 AS sub,
            ''::text AS column_name,
            COALESCE(i.initprivs, pg_catalog.acldefault(:letter, o.:owner_column)) AS list
        UNION ALL
        SELECT
            1,
            0,
            '',
            COALESCE(o.:acl_column, pg_catalog.acldefault(:letter, o.:owner_column))
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE o.:acl_column::text IS DISTINCT FROM i.initprivs::text
ORDER BY o.oid, l.side, x.place
