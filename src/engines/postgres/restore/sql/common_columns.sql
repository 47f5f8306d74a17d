-- Columns that two tables have both, in the order of the first; generated ones compute themselves.
-- :living and :twin are their quoted names, as literals.
SELECT
    pg_catalog.quote_ident(a.attname) AS name,
    a.attidentity <> '' AS is_identity,
    EXISTS (
        SELECT
        FROM pg_catalog.pg_index i
        WHERE i.indrelid = a.attrelid
          AND i.indisprimary
          AND i.indimmediate
          AND i.indisvalid
          AND a.attnum = ANY (i.indkey[0 : i.indnkeyatts - 1])
    ) AS in_key
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_attribute t
    ON t.attname = a.attname
    AND t.attrelid = pg_catalog.to_regclass(:twin)
    AND t.attnum > 0
    AND NOT t.attisdropped
WHERE a.attrelid = pg_catalog.to_regclass(:living)
  AND a.attnum > 0
  AND NOT a.attisdropped
  AND a.attgenerated = ''
ORDER BY a.attnum
