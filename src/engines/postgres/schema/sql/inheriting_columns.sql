-- Columns of tables that inherit or are inherited from, in their order.
-- Parameters: $1 oids of the tables.
-- Versions: NOT NULL is a constraint of its own from 18 on: foreign_not_null if it is a parent's alone.
SELECT
    a.attrelid AS relation,
    a.attname::text AS name,
    a.attnum AS number,
    a.attinhcount > 0 AS inherited,
    -- since 18
    EXISTS (
        SELECT 1
        FROM pg_catalog.pg_constraint k
        WHERE k.conrelid = a.attrelid
          AND k.contype = 'n'
          AND k.conkey = ARRAY[a.attnum]
          AND NOT k.conislocal
    ) AS foreign_not_null,
    -- before 18
    false AS foreign_not_null,
    -- end
    a.attislocal AS is_local
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY($1::oid[])
  AND a.attnum > 0
  AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
