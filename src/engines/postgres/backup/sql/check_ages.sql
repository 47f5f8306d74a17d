-- Ages in transactions, and the settings that end or hurt a snapshot that is held for long.
-- Versions: old_snapshot_threshold is a setting of 13 to 16.
SELECT
    (
        SELECT pg_catalog.max(pg_catalog.age(datfrozenxid))
        FROM pg_catalog.pg_database
        WHERE datallowconn
    ) AS oldest_database,
    current_setting('autovacuum_freeze_max_age') AS freeze_max_age,
    current_setting('old_snapshot_threshold', true) AS old_snapshot_threshold,
    current_setting('hot_standby_feedback') AS feedback,
    current_setting('max_standby_streaming_delay') AS standby_delay,
    (
        SELECT pg_catalog.max(pg_catalog.age(backend_xmin))
        FROM pg_catalog.pg_stat_activity
    ) AS oldest_snapshot
