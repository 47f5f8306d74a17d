-- What a backup keeps of the server and the database, as text in any encoding; the snapshot is exported by it.
-- taken_at is not made by to_char: that needs a conversion from UTF8, which MULE_INTERNAL has not.
-- Versions: the provider and locale of a database from 15 on, by these names from 17 on.
SELECT
    pg_catalog.pg_export_snapshot()::text AS snapshot,
    pg_catalog.current_setting('server_version')::text AS version,
    pg_catalog.current_setting('server_version_num')::int4 AS version_num,
    d.datname::text AS database,
    pg_catalog.pg_encoding_to_char(d.encoding)::text AS encoding,
    d.datcollate::text AS lc_collate,
    d.datctype::text AS lc_ctype,
    (
        CASE
            WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn()
        END
    )::text AS wal_lsn,
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    (
        SELECT pg_catalog.count(*)
        FROM pg_catalog.pg_largeobject_metadata
    ) AS large_objects,
    pg_catalog.pg_database_size(d.oid) AS database_bytes,
    pg_catalog.replace(
        pg_catalog.replace(pg_catalog.transaction_timestamp()::text, ' ', 'T'),
        '+00',
        'Z'
    ) AS taken_at,
    pg_catalog.to_jsonb(d) ->> 'datlocprovider' AS locale_provider,
    COALESCE(
        pg_catalog.to_jsonb(d) ->> 'datlocale',
        pg_catalog.to_jsonb(d) ->> 'daticulocale'
    ) AS locale,
    pg_catalog.to_jsonb(d) ->> 'daticurules' AS locale_rules,
    pg_catalog.pg_backend_pid() AS process_id,
    (
        SELECT reset_val
        FROM pg_catalog.pg_settings
        WHERE name = 'search_path'
    ) AS search_path,
    (
        SELECT spcname
        FROM pg_catalog.pg_tablespace
        WHERE oid = d.dattablespace
    )::text AS tablespace
FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
