-- Options of TOAST tables, where there are some.
-- Parameters: $1 oids of the tables that they belong to.
SELECT c.oid, t.reloptions AS options
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
WHERE c.oid = ANY($1::oid[]) AND t.reloptions IS NOT NULL
