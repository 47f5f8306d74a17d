-- First of each batch of large objects whose content the role may read.
-- :readable is readable_large_object.sql, which says that the role may read the content.
-- Parameters: $1 objects of a batch.
SELECT t.oid
FROM (
    SELECT o.oid, pg_catalog.row_number() OVER (ORDER BY o.oid) AS place
    FROM pg_catalog.pg_largeobject_metadata o
    WHERE :readable
) t
WHERE t.place % $1 = 1
ORDER BY t.oid
