-- Objects of CREATE STATISTICS.
-- Versions: 13 to 18 alike.
SELECT
    s.oid,
    's' AS tag,
    s.stxnamespace AS schema,
    s.stxname::text AS name,
    0::oid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_statistic_ext s
WHERE s.oid >= 16384
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass
        AND d.objid = s.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
