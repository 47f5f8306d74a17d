-- Relations that meet a condition, and what is below them.
-- :condition is about relations c in schemas n. :all is true for all children, false for partitions alone.
WITH RECURSIVE x(oid) AS (
    SELECT c.oid
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid >= 16384
      AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND (:condition)
    UNION
    SELECT i.inhrelid
    FROM x
    JOIN pg_catalog.pg_inherits i ON i.inhparent = x.oid
    JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid AND (:all OR k.relispartition)
)
SELECT x.oid
FROM x
