-- Sequences that belong to a column, with the table of the column.
-- Parameters: $1 oids of the sequences.
SELECT d.objid AS sequence, d.refobjid AS table_oid
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.refobjsubid > 0
  AND d.deptype IN ('a', 'i')
  AND d.objid = ANY($1::oid[])
