-- Indexes of keys, by their constraints.
-- Parameters: $1 oids of the constraints.
SELECT
    k.oid,
    pg_catalog.pg_get_indexdef(k.conindid) AS definition,
    ts.spcname::text AS tablespace
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conindid
LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace
WHERE k.oid = ANY($1::oid[])
