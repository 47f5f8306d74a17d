-- Foreign keys between these tables.
-- Parameters: $1 oids of the tables.
SELECT DISTINCT k.conrelid AS relation, k.confrelid AS referenced
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f'
  AND k.conrelid <> k.confrelid
  AND k.conrelid = ANY($1::oid[])
  AND k.confrelid = ANY($1::oid[])
