-- Foreign keys whose referenced rows are left out while rows of their own come: up are the tables without rows
-- and the tables that they are partitions of; down are the tables that have the foreign key, partitions among
-- them.
-- Parameters: $1 oids of tables whose rows are left out.
WITH RECURSIVE up(oid) AS (
    SELECT pg_catalog.unnest($1::oid[])
    UNION
    SELECT i.inhparent
    FROM up
    JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid
    JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid AND p.relispartition
),
fks AS (
    SELECT k.oid, k.conrelid, k.confrelid
    FROM pg_catalog.pg_constraint k
    WHERE k.contype = 'f'
      AND k.convalidated
      AND k.conparentid = 0
      AND k.confrelid IN (SELECT up.oid FROM up)
),
down(fk, oid) AS (
    SELECT fks.oid, fks.conrelid
    FROM fks
    UNION
    SELECT d.fk, i.inhrelid
    FROM down d
    JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid
    JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid AND p.relispartition
)
SELECT fks.oid, c.relkind = 'p' AS partitioned, fks.confrelid AS referenced
FROM fks
JOIN pg_catalog.pg_class c ON c.oid = fks.conrelid
WHERE EXISTS (
    SELECT
    FROM down d
    JOIN pg_catalog.pg_class t ON t.oid = d.oid AND t.relkind = 'r'
    WHERE d.fk = fks.oid AND NOT d.oid = ANY($1::oid[])
)
ORDER BY fks.oid
