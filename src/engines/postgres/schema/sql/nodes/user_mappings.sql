-- User mappings; the parent is the foreign server.
SELECT
    u.umid AS oid,
    'm1' AS tag,
    0::oid AS schema,
    u.usename::text AS name,
    u.srvid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_user_mappings u
