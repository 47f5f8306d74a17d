-- Where a recovery has ended: its last record and transaction, and the file of the log that is written now, which names the timeline.
SELECT
    pg_is_in_recovery() AS recovers,
    pg_last_wal_replay_lsn() AS reached,
    to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS last_transaction,
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_insert_lsn()) END AS file
