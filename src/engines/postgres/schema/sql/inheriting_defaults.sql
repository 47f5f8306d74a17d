-- Defaults of columns that are not generated.
-- Parameters: $1 oids of the tables.
SELECT d.oid, d.adrelid AS relation, d.adnum AS number
FROM pg_catalog.pg_attrdef d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE d.adrelid = ANY($1::oid[]) AND a.attgenerated = ''
