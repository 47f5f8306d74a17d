-- CHECK constraints that tables have from their parents.
-- Parameters: $1 oids of the children.
SELECT i.inhrelid AS child, k.oid, k.conname::text AS name
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_constraint k ON k.conrelid = i.inhparent AND k.contype = 'c' AND NOT k.connoinherit
WHERE i.inhrelid = ANY($1::oid[])
