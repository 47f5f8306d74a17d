-- Operators. One without a function is one that others name, not one that was made.
-- Versions: 13 to 18 alike.
SELECT
    o.oid,
    'u' AS tag,
    o.oprnamespace AS schema,
    o.oprname::text AS name,
    0::oid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_operator o
WHERE o.oid >= 16384
  AND o.oprcode <> 0
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass
        AND d.objid = o.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
