-- Transforms.
SELECT
    3576::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    0::oid AS whole_class,
    0::oid AS whole_oid,
    NULL::text AS schema,
    t.typname || ' ' || l.lanname AS name
FROM pg_catalog.pg_transform o
JOIN pg_catalog.pg_type t ON t.oid = o.trftype
JOIN pg_catalog.pg_language l ON l.oid = o.trflang
WHERE o.oid >= 16384
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_transform'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
