-- User mappings, for a role that may not read pg_user_mapping. No user: PUBLIC.
-- The view shows no options where it shows none to this role, and where there are none: its own condition tells
-- which.
-- Parameters: $1 their oids.
SELECT
    u.umid AS oid,
    u.srvname::text AS server,
    CASE WHEN u.umuser <> 0 THEN u.usename::text END AS user_name,
    u.umoptions AS options,
    u.umoptions IS NOT NULL
        OR (
            SELECT r.rolsuper
            FROM pg_catalog.pg_roles r
            WHERE r.rolname = current_user
        )
        OR (u.umuser = 0 AND pg_catalog.pg_has_role(s.srvowner, 'USAGE'))
        OR (
            u.umuser <> 0
            AND u.usename = current_user
            AND (
                pg_catalog.pg_has_role(s.srvowner, 'USAGE')
                OR pg_catalog.has_server_privilege(s.oid, 'USAGE')
            )
        ) AS visible
FROM pg_catalog.pg_user_mappings u
JOIN pg_catalog.pg_foreign_server s ON s.oid = u.srvid
WHERE u.umid = ANY($1::oid[])
