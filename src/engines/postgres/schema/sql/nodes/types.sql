-- Types that are no row type of a table, no array and no multirange. The tag is T and the letter of
-- pg_type.typtype.
SELECT
    t.oid,
    'T' || t.typtype::text AS tag,
    t.typnamespace AS schema,
    t.typname::text AS name,
    0::oid AS parent,
    0 AS flags,
    t.typacl IS NOT NULL AS has_acl
FROM pg_catalog.pg_type t
LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
WHERE t.oid >= 16384
  AND (
      t.typtype IN ('e', 'd', 'r')
      OR (t.typtype = 'p' AND NOT t.typisdefined)
      OR (t.typtype = 'b' AND e.oid IS NULL)
      OR (t.typtype = 'c' AND c.relkind = 'c')
  )
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
        AND d.objid = t.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
