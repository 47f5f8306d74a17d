-- Changed rights to columns of relations that this backup does not create; sub is the number of the column.
-- side: 0 for the rights that the object had when it was made, 1 for those that it has. No privilege: an empty
-- list. Rights that an object had when it was made are in pg_init_privs, else the built-in default. The objects
-- are chosen before anything else is looked at, and by one pass over the dependencies: with very many tables
-- the rest costs more.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.relowner)::text AS owner,
    'TABLE ' || pg_catalog.quote_ident(rn.nspname) || '.' || pg_catalog.quote_ident(o.relname) AS object,
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
JOIN pg_catalog.pg_attribute a ON o.oid = a.attrelid
JOIN pg_catalog.pg_namespace rn ON rn.oid = o.relnamespace
LEFT JOIN pg_catalog.pg_init_privs i
    ON i.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND i.objoid = o.oid
    AND i.objsubid = a.attnum,
    LATERAL (
        SELECT
            0 AS side,
            a.attnum::int4 AS sub,
            pg_catalog.quote_ident(a.attname) AS column_name,
            i.initprivs AS list
        UNION ALL
        SELECT
            1,
            a.attnum::int4,
            pg_catalog.quote_ident(a.attname),
            a.attacl
    ) l
LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true
WHERE a.attacl::text IS DISTINCT FROM i.initprivs::text AND NOT a.attisdropped
ORDER BY o.oid, l.sub, l.side, x.place
