-- CHECK constraints of tables.
-- Parameters: $1 oids of the tables.
SELECT
    k.conrelid AS relation,
    k.oid,
    k.conname::text AS name,
    pg_catalog.pg_get_constraintdef(k.oid) AS definition,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = k.oid
          AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_constraint k
WHERE k.conrelid = ANY($1::oid[]) AND k.contype = 'c'
ORDER BY k.conrelid, k.conname
