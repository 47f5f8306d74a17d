-- Partitions that would go with tables, but are none of them.
-- :gone is gone.sql, :oids the array of the tables.
:gone
SELECT c.oid::pg_catalog.regclass AS name
FROM gone g
JOIN pg_catalog.pg_class c ON g.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = g.objid
WHERE c.relispartition
  AND c.relkind IN ('r', 'p', 'f')
  AND NOT c.oid = ANY (:oids)
ORDER BY name
