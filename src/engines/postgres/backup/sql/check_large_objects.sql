-- Number of large objects that the role may not read.
-- :readable is readable_large_object.sql, which says that the role may read the content.
SELECT pg_catalog.count(*) AS number
FROM pg_catalog.pg_largeobject_metadata o
WHERE NOT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')
  AND NOT :readable
