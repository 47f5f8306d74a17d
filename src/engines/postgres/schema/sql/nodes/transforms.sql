-- Transforms.
SELECT
    o.oid,
    'f1' AS tag,
    0::oid AS schema,
    t.typname || ' ' || l.lanname AS name,
    0::oid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_transform o
JOIN pg_catalog.pg_type t ON t.oid = o.trftype
JOIN pg_catalog.pg_language l ON l.oid = o.trflang
WHERE o.oid >= 16384
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_transform'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
