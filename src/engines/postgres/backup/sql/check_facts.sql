-- Facts about the server and the database that a check looks at. slots: sessions and prepared transactions.
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num') AS version_num,
    pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(pg_catalog.current_database())) AS size,
    (
        SELECT rolsuper
        FROM pg_catalog.pg_roles
        WHERE rolname = current_user
    ) AS superuser,
    (
        SELECT count(*)
        FROM pg_catalog.pg_class
        WHERE relkind IN ('r', 'p')
          AND relnamespace NOT IN (
              SELECT oid
              FROM pg_catalog.pg_namespace
              WHERE nspname ~ '^pg_' OR nspname = 'information_schema'
          )
    ) AS tables,
    current_setting('max_locks_per_transaction')::bigint * (
        current_setting('max_connections')::bigint + current_setting(
            'max_prepared_transactions'
        )::bigint
    ) AS lock_capacity,
    (
        SELECT count(*)
        FROM pg_catalog.pg_largeobject_metadata
    ) AS large_objects,
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    current_setting('max_connections')::bigint + current_setting(
        'max_prepared_transactions'
    )::bigint AS slots,
    current_setting('max_locks_per_transaction') AS locks_each
