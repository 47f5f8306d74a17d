-- Views over tables, at every level, by their oids.
-- :gone is gone.sql.
:gone
SELECT c.oid AS name
FROM gone g
JOIN pg_catalog.pg_class c ON g.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = g.objid
WHERE c.relkind = 'v'
