-- Tables with their columns and sizes in bytes, those of the heap by its file.
-- Unlogged tables cannot be read on a standby. A file ends at 1 GiB; what is larger has more of them. A file
-- that is missing is no empty table: COPY will say so. empty: nobody can truncate or swap the file while we
-- hold its lock, and a row of our snapshot would lie in it.
-- Parameters: $1 their oids; $2 whether they are few, so that each TOAST table may be opened
-- (pg_relation_size).
-- Versions: 13 to 18 alike.
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
    c.relam = 2 AND s.size = 0 AS empty,
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
        SELECT (
            SELECT CASE
                WHEN f.size IS NULL THEN 1
                WHEN f.size < 1 << 30 THEN f.size
                ELSE pg_catalog.pg_relation_size(c.oid)
            END
            FROM pg_catalog.pg_stat_file(pg_catalog.pg_relation_filepath(c.oid), true) f
        ) AS size
        OFFSET 0
    ) s
WHERE c.oid = ANY($1::oid[]) AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
