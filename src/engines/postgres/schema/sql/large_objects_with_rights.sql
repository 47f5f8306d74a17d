-- A page of large objects that have an access list.
-- :readable is readable_large_object.sql, which says that the role may read the content.
-- Parameters: $1 oid after which the page begins; $2 whether only objects whose content the role may read are
-- wanted; $3 number of objects.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.lomowner)::text AS owner,
    o.lomacl::text AS list
FROM pg_catalog.pg_largeobject_metadata o
WHERE o.lomacl IS NOT NULL
  AND o.oid > $1
  AND (NOT $2 OR :readable)
ORDER BY o.oid
LIMIT $3
