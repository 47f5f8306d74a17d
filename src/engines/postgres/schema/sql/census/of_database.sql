-- Objects of one catalog whose objects lie in no schema.
-- :class, :catalog and its column :name_column come from the table in census.rs.
SELECT
    :class::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    0::oid AS whole_class,
    0::oid AS whole_oid,
    NULL::text AS schema,
    o.:name_column::text AS name
FROM pg_catalog.:catalog o
WHERE o.oid >= 16384
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.:catalog'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
