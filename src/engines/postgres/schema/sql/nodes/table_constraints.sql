-- Constraints of tables; the parent is the table. The tag is C and the letter of pg_constraint.contype.
-- Versions: contype n is of 18.
SELECT
    k.oid,
    'C' || k.contype::text AS tag,
    0::oid AS schema,
    k.conname::text AS name,
    k.conrelid AS parent,
    CASE
        WHEN k.contype = 'c' AND k.convalidated THEN :inline
        ELSE 0
    END + CASE WHEN c.relkind = 'p' THEN :partitioned ELSE 0 END AS flags,
    false AS has_acl
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
WHERE k.conrelid >= 16384
  AND (
      k.contype IN ('p', 'u', 'x')
      OR (k.contype = 'f' AND k.conparentid = 0)
      OR (k.contype = 'n' AND k.conislocal AND NOT k.convalidated)
      OR (k.contype = 'c' AND (k.conislocal OR c.relispartition))
  )
