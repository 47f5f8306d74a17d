-- Columns of composite types, in their order.
-- Parameters: $1 oids of the types.
SELECT
    t.oid AS type,
    a.attname::text AS name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS column_type,
    cn.nspname::text AS collation_schema,
    co.collname::text AS collation_name,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = a.attrelid
          AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND ds.objsubid = a.attnum
    ) AS comment
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
JOIN pg_catalog.pg_type u ON u.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation AND a.attcollation <> u.typcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
WHERE t.oid = ANY($1::oid[])
  AND a.attnum > 0
  AND NOT a.attisdropped
ORDER BY t.oid, a.attnum
