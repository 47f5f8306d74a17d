-- Defaults of columns that are not generated.
-- Parameters: $1 their oids.
SELECT
    d.oid,
    d.adrelid AS relation,
    a.attname::text AS column_name,
    pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS expression,
    c.relkind::text AS table_kind
FROM pg_catalog.pg_attrdef d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
JOIN pg_catalog.pg_class c ON c.oid = d.adrelid
WHERE d.oid = ANY($1::oid[]) AND a.attgenerated = ''
