-- Casts that are no multirange's own.
SELECT
    o.oid,
    'k' AS tag,
    0::oid AS schema,
    s.typname || ' AS ' || t.typname AS name,
    0::oid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_cast o
JOIN pg_catalog.pg_type s ON s.oid = o.castsource
JOIN pg_catalog.pg_type t ON t.oid = o.casttarget
WHERE o.oid >= 16384
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_cast'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype IN ('e', 'i')
  )
