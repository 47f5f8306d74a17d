-- Defaults that are expressions of generated columns.
SELECT d.oid
FROM pg_catalog.pg_attrdef d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE a.attgenerated <> '' AND d.adrelid >= 16384
