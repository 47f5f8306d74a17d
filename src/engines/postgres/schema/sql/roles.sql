-- Roles, but for the built-in ones, without passwords.
SELECT
    r.rolname::text AS name,
    r.rolsuper AS superuser,
    r.rolinherit AS inherits,
    r.rolcreaterole AS creates_roles,
    r.rolcreatedb AS creates_databases,
    r.rolcanlogin AS logs_in,
    r.rolreplication AS replicates,
    r.rolbypassrls AS bypasses_row_security,
    r.rolconnlimit AS connection_limit,
    NULL::text AS password,
    r.rolvaliduntil::text AS valid_until,
    pg_catalog.shobj_description(r.oid, 'pg_authid') AS comment
FROM pg_catalog.pg_roles r
WHERE r.rolname !~ '^pg_'
ORDER BY name
