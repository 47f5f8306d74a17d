-- Tables that have a column whose type's binary image may differ elsewhere.
-- Parameters: $1 oids of the types whose image is the same everywhere; domains over them count as well.
WITH RECURSIVE stable AS (
    SELECT t.oid
    FROM pg_catalog.pg_type t
    WHERE t.oid = ANY($1::oid[])
    UNION
    SELECT d.oid
    FROM pg_catalog.pg_type d
    JOIN stable s ON d.typbasetype = s.oid
    WHERE d.typtype = 'd'
)
SELECT DISTINCT a.attrelid AS relation
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
LEFT JOIN stable s ON s.oid = a.atttypid
WHERE c.relkind = 'r'
  AND c.relpersistence <> 't'
  AND a.attnum > 0
  AND NOT a.attisdropped
  AND a.attgenerated = ''
  AND a.attrelid >= 16384
  AND s.oid IS NULL
