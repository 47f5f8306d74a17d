-- Objects of one catalog whose objects lie in no schema.
-- :catalog, its column :name_column, :tag, and the condition :has_acl come from the table in catalog.rs.
SELECT
    o.oid,
    :tag AS tag,
    0::oid AS schema,
    o.:name_column::text AS name,
    0::oid AS parent,
    0 AS flags,
    :has_acl AS has_acl
FROM pg_catalog.:catalog o
WHERE o.oid >= 16384
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.:catalog'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
