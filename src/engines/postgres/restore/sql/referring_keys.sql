-- Foreign keys of other tables that refer to tables. :oids is the array of these.
SELECT DISTINCT
    k.confrelid::pg_catalog.regclass AS table_name,
    k.conname AS name,
    k.conrelid::pg_catalog.regclass AS referring
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f'
  AND k.confrelid = ANY (:oids)
  AND NOT k.conrelid = ANY (:oids)
ORDER BY table_name, name
