-- Foreign keys of tables and to tables that the server takes for proved, with the conditions on a row f that it
-- has to be proved, and on a row r that it refers to. Of a partitioned key the topmost one is read, which goes
-- through all partitions. :oids is the array of the tables.
-- Versions: keys with PERIOD, and keys that are not enforced, from 18 on.
WITH RECURSIVE up(oid, parent) AS (
    SELECT k.oid, k.conparentid
    FROM pg_catalog.pg_constraint k,
        LATERAL (SELECT :oids AS oids) n
    WHERE k.contype = 'f' AND (k.conrelid = ANY (n.oids) OR k.confrelid = ANY (n.oids))
    UNION
    SELECT k.oid, k.conparentid
    FROM up
    JOIN pg_catalog.pg_constraint k ON k.oid = up.parent
)
SELECT
    k.conrelid::pg_catalog.regclass AS table_name,
    pg_catalog.quote_ident(k.conname) AS name,
    k.confrelid::pg_catalog.regclass AS referenced,
    -- since 18
    k.conperiod AS has_period,
    -- before 18
    false AS has_period,
    -- end
    CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END AS only_word,
    CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END AS referenced_only_word,
    (
        SELECT pg_catalog.string_agg(
            'f.' || pg_catalog.quote_ident(a.attname) || ' IS NOT NULL',
            ' AND '
        )
        FROM pg_catalog.unnest(k.conkey) u(n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n
    ) AS present,
    (
        SELECT pg_catalog.string_agg(
            pg_catalog.format('r.%I OPERATOR(%I.%s) f.%I', b.attname, n.nspname, o.oprname, a.attname),
            ' AND '
        )
        FROM ROWS FROM (
            pg_catalog.unnest(k.conkey),
            pg_catalog.unnest(k.confkey),
            pg_catalog.unnest(k.conpfeqop)
        ) u(f, r, op)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.f
        JOIN pg_catalog.pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.r
        JOIN pg_catalog.pg_operator o ON o.oid = u.op
        JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
    ) AS matching
FROM up
JOIN pg_catalog.pg_constraint k USING (oid)
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_class r ON r.oid = k.confrelid
WHERE up.parent = 0
  AND k.convalidated
  -- since 18
  AND k.conenforced
  -- end
ORDER BY table_name, name
