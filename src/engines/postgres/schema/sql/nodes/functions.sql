-- Functions, procedures and aggregates. The tag is P and the letter of pg_proc.prokind.
SELECT
    p.oid,
    'P' || p.prokind::text AS tag,
    p.pronamespace AS schema,
    p.proname::text AS name,
    0::oid AS parent,
    0 AS flags,
    p.proacl IS NOT NULL AS has_acl
FROM pg_catalog.pg_proc p
WHERE p.oid >= 16384
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        AND d.objid = p.oid
        AND d.objsubid = 0
        AND d.deptype IN ('e', 'i')
  )
