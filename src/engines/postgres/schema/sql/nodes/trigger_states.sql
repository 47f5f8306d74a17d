-- Triggers that partitions have from their parent, in another state than the parent's; the parent is the partition.
-- Versions: before 15 copies of users' triggers were internal, and those of foreign keys had no parent.
SELECT
    t.oid,
    't1' AS tag,
    0::oid AS schema,
    t.tgname::text AS name,
    t.tgrelid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_trigger p ON p.oid = t.tgparentid
WHERE t.tgenabled <> p.tgenabled
  -- since 15
  AND NOT p.tgisinternal
  -- before 15
  AND (NOT p.tgisinternal OR p.tgparentid <> 0)
  -- end
