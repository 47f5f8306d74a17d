-- Tables that inherit, with their parents in order; partitions do not count.
SELECT i.inhrelid AS child, i.inhparent AS parent
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE c.relkind IN ('r', 'f') AND NOT c.relispartition
ORDER BY i.inhrelid, i.inhseqno
