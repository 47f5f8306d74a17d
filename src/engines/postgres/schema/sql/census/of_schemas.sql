-- Objects of one catalog whose objects lie in schemas.
-- :class, :catalog, its columns :schema_column and :name_column, and the :condition come from the table in
-- census.rs.
SELECT
    :class::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    0::oid AS whole_class,
    0::oid AS whole_oid,
    n.nspname::text AS schema,
    o.:name_column::text AS name
FROM pg_catalog.:catalog o
JOIN pg_catalog.pg_namespace n
    ON n.oid = o.:schema_column
    AND n.nspname !~ '^pg_(temp|toast)'
    AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)
WHERE o.oid >= 16384
  AND :condition
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.:catalog'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
