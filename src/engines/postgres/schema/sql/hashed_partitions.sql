-- Leaf partitions by a hash that another database computes otherwise, with the table at the root and its
-- columns.
SELECT DISTINCT
    l.relid::oid AS oid,
    n.nspname::text AS root_schema,
    c.relname::text AS root_name,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid
          AND a.attnum > 0
          AND NOT a.attisdropped
          AND a.attgenerated = ''
        ORDER BY a.attnum
    ) AS root_columns
FROM pg_catalog.pg_partitioned_table p,
    LATERAL pg_catalog.pg_partition_tree(p.partrelid) l,
    pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.partstrat = 'h'
  AND p.partrelid >= 16384
  AND l.isleaf
  AND c.oid = pg_catalog.pg_partition_root(p.partrelid)
  AND EXISTS (
      SELECT 1
      FROM ROWS FROM (
          pg_catalog.unnest(p.partclass::oid[]),
          pg_catalog.unnest(p.partcollation::oid[])
      ) k(class, coll)
      JOIN pg_catalog.pg_opclass o ON o.oid = k.class
      LEFT JOIN pg_catalog.pg_collation co ON co.oid = k.coll
      WHERE o.oid >= 16384
        OR o.opcname IN ('enum_ops', 'array_ops', 'record_ops', 'range_ops', 'multirange_ops')
        OR NOT COALESCE(co.collisdeterministic, true)
  )
