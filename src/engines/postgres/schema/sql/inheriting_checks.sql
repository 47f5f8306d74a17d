-- CHECK constraints of tables, with the numbers of the columns that they name.
-- Parameters: $1 oids of the tables.
SELECT
    k.oid,
    k.conrelid AS relation,
    COALESCE(k.conkey, '{}') AS columns,
    k.conislocal AS is_local,
    k.conname::text AS name
FROM pg_catalog.pg_constraint k
WHERE k.conrelid = ANY($1::oid[]) AND k.contype = 'c'
