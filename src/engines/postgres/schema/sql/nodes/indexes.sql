-- Indexes that no constraint makes, and that are whole; the parent is the table.
SELECT
    c.oid,
    'I' AS tag,
    c.relnamespace AS schema,
    c.relname::text AS name,
    i.indrelid AS parent,
    CASE WHEN c.relkind = 'I' THEN :partitioned ELSE 0 END AS flags,
    false AS has_acl
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
WHERE i.indexrelid >= 16384
  AND i.indisready
  AND (i.indisvalid OR c.relkind = 'I')
  AND t.relkind IN ('r', 'p', 'm')
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_constraint k
      WHERE k.conindid = i.indexrelid
        AND k.conrelid = i.indrelid
        AND k.contype IN ('p', 'u', 'x')
  )
