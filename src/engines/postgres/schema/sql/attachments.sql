-- Partitions, of tables and of indexes, with what each is a part of.
SELECT i.inhrelid AS oid, i.inhparent AS parent
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE c.relispartition
ORDER BY oid, parent
