-- Numbers of large objects and of security labels.
-- :readable is readable_large_object.sql, which says that the role may read the content.
-- Parameters: $1 whether only objects whose content the role may read count.
SELECT
    (
        SELECT pg_catalog.count(*)
        FROM pg_catalog.pg_largeobject_metadata o
        WHERE NOT $1 OR :readable
    ) AS large_objects,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_seclabel) AS labels
