-- Large objects whose content the role may not read, and how many these are.
-- :readable is readable_large_object.sql, which says that the role may read the content.
-- Parameters: $1 number of objects.
SELECT o.oid, pg_catalog.count(*) OVER () AS total
FROM pg_catalog.pg_largeobject_metadata o
WHERE NOT :readable
ORDER BY o.oid
LIMIT $1
