-- Schemas.
SELECT
    2615::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    0::oid AS whole_class,
    0::oid AS whole_oid,
    NULL::text AS schema,
    o.nspname::text AS name
FROM pg_catalog.pg_namespace o
WHERE o.oid >= 16384
  AND o.nspname !~ '^pg_(temp|toast)'
  AND o.nspname <> 'information_schema'
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
