-- Casts. A multirange's cast from its range is the type's own.
SELECT
    2605::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    0::oid AS whole_class,
    0::oid AS whole_oid,
    NULL::text AS schema,
    s.typname || ' AS ' || t.typname AS name
FROM pg_catalog.pg_cast o
JOIN pg_catalog.pg_type s ON s.oid = o.castsource
JOIN pg_catalog.pg_type t ON t.oid = o.casttarget
WHERE o.oid >= 16384
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_cast'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_cast'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.deptype = 'i'
  )
