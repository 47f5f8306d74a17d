-- Objects of one catalog whose objects lie in schemas and have no access list.
-- :catalog, its columns :schema_column and :name_column, :tag, and the :condition of those that count come from the
-- table in catalog.rs.
SELECT
    o.oid,
    :tag AS tag,
    o.:schema_column AS schema,
    o.:name_column::text AS name,
    0::oid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.:catalog o
WHERE o.oid >= 16384
  AND :condition
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.:catalog'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
