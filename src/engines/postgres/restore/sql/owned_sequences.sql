-- Sequences that belong to columns of tables. :oids is the array of these.
SELECT n.nspname AS schema, c.relname AS name
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.deptype = 'a'
  AND d.refobjid = ANY (:oids)
ORDER BY schema, name
