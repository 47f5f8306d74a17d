-- Tables whose rows extensions ask to be dumped, with the condition on the rows, which may be empty.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.relname::text AS name,
    COALESCE(u.condition, '') AS condition,
    pg_catalog.pg_relation_size(c.oid) AS bytes,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid
          AND a.attnum > 0
          AND NOT a.attisdropped
          AND a.attgenerated = ''
        ORDER BY a.attnum
    ) AS columns
FROM pg_catalog.pg_extension e,
    LATERAL ROWS FROM (
        pg_catalog.unnest(e.extconfig),
        pg_catalog.unnest(e.extcondition)
    ) u(oid, condition)
JOIN pg_catalog.pg_class c ON c.oid = u.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r'
ORDER BY schema, name
