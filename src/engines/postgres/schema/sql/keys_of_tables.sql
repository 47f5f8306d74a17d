-- Keys that ADD CONSTRAINT ... USING INDEX can make, see https://www.postgresql.org/docs/current/sql-
-- altertable.html: a valid B-tree without conditions or expressions that is called as the key.
-- Parameters: $1 oids of the tables.
SELECT k.oid
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class t ON t.oid = k.conrelid AND t.relkind = 'r'
JOIN pg_catalog.pg_index x
    ON x.indexrelid = k.conindid AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
JOIN pg_catalog.pg_class c ON c.oid = k.conindid AND c.relam = 403 AND c.relname = k.conname
WHERE k.contype IN ('p', 'u')
  AND NOT k.condeferrable
  AND k.conrelid = ANY($1::oid[])
ORDER BY k.oid
