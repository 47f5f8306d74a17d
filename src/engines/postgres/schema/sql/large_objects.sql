-- A page of large objects.
-- :readable is readable_large_object.sql, which says that the role may read the content.
-- Parameters: $1 oid after which the page begins; $2 whether only objects whose content the role may read are
-- wanted; $3 number of objects.
SELECT
    o.oid,
    pg_catalog.pg_get_userbyid(o.lomowner)::text AS owner,
    d.description AS comment
FROM pg_catalog.pg_largeobject_metadata o
LEFT JOIN pg_catalog.pg_description d
    ON d.classoid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass
    AND d.objoid = o.oid
    AND d.objsubid = 0
WHERE o.oid > $1
  AND (NOT $2 OR :readable)
ORDER BY o.oid
LIMIT $3
