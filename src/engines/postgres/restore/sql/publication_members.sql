-- Publications with their tables, if they have some.
SELECT p.pubname AS publication, n.nspname AS schema, c.relname AS name
FROM pg_catalog.pg_publication p
LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
LEFT JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
