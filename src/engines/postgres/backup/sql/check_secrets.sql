-- Whether the role sees passwords of roles, and options of all user mappings.
SELECT
    pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS passwords,
    pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')
        OR NOT EXISTS (
            SELECT
            FROM pg_catalog.pg_user_mappings
            WHERE umoptions IS NULL AND usename IS DISTINCT FROM current_user
        ) AS mappings
