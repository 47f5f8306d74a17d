-- Tables with their columns and sizes in bytes.
-- Unlogged tables cannot be read on a standby. With very many tables the last VACUUM's figure has to do, which
-- only orders them. :size is that of the heap: size_by_file.sql, or size_by_catalog.sql for a role that may not look
-- at files; :empty whether it says that a table has no row.
-- Parameters: $1 their oids; $2 whether they are few, so that each may be opened (pg_relation_size).
SELECT
    c.oid,
    s.size AS heap,
    CASE
        WHEN $2 THEN CASE
            WHEN c.reltoastrelid <> 0 THEN pg_catalog.pg_relation_size(c.reltoastrelid)
            ELSE 0
        END
        ELSE COALESCE(
            (
                SELECT GREATEST(t.relpages, 0)::int8 * pg_catalog.current_setting('block_size')::int8
                FROM pg_catalog.pg_class t
                WHERE t.oid = c.reltoastrelid
            ),
            0
        )
    END AS toast,
    pg_catalog.current_setting('block_size')::int8 AS block_size,
    c.relam = 2 AS is_heap,
    :empty AS empty,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid
          AND a.attnum > 0
          AND NOT a.attisdropped
          AND a.attgenerated = ''
        ORDER BY a.attnum
    ) AS columns
FROM pg_catalog.pg_class c,
    LATERAL (
        SELECT :size AS size
        OFFSET 0
    ) s
WHERE c.oid = ANY($1::oid[]) AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
