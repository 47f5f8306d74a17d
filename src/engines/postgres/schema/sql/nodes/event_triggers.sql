-- Event triggers.
-- Versions: 13 to 18 alike.
SELECT
    e.oid,
    'E' AS tag,
    0::oid AS schema,
    e.evtname::text AS name,
    0::oid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_event_trigger e
WHERE e.oid >= 16384
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass
        AND d.objid = e.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
