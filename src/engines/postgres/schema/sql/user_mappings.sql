-- User mappings, for a role that may read pg_user_mapping. No user: PUBLIC.
-- Parameters: $1 their oids.
SELECT
    u.oid,
    s.srvname::text AS server,
    CASE WHEN u.umuser <> 0 THEN pg_catalog.pg_get_userbyid(u.umuser)::text END AS user_name,
    u.umoptions AS options,
    true AS visible
FROM pg_catalog.pg_user_mapping u
JOIN pg_catalog.pg_foreign_server s ON s.oid = u.umserver
WHERE u.oid = ANY($1::oid[])
