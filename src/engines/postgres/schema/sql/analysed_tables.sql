-- Tables that were analysed, with the number of their columns that statistics are kept of.
-- Tables with extended statistics are left out: a restore cannot set these.
-- Parameters: $1 their oids.
-- Versions: before 14 a table that was never analysed has 0 rows instead of -1; virtual generated columns from
-- 18 on.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.relname::text AS name,
    c.reltuples::int8 AS rows,
    c.relkind = 'p' AS partitioned,
    (
        SELECT pg_catalog.count(*)
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid
          AND a.attnum > 0
          AND NOT a.attisdropped
          AND COALESCE(a.attstattarget, -1) <> 0
          -- since 18
          AND a.attgenerated <> 'v'
          -- end
    ) AS columns
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY($1::oid[])
  AND c.relkind IN ('r', 'p')
  AND c.reltuples > 0
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_statistic_ext e
      WHERE e.stxrelid = c.oid
  )
