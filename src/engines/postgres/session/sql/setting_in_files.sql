-- The value of a setting s in the server's files, or else what it is without them.
(
    SELECT f.setting
    FROM pg_catalog.pg_file_settings f
    WHERE pg_catalog.lower(f.name) = pg_catalog.lower(s.name) AND f.applied
    ORDER BY f.seqno DESC
    LIMIT 1
),
s.boot_val
