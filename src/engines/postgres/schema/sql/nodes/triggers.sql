-- Triggers of users that come from no other trigger; the parent is the relation.
SELECT
    t.oid,
    't' AS tag,
    0::oid AS schema,
    t.tgname::text AS name,
    t.tgrelid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_trigger t
WHERE t.oid >= 16384
  AND NOT t.tgisinternal
  AND t.tgparentid = 0
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
        AND d.objid = t.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
