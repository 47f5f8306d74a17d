-- Roles, but for the built-in ones, with their passwords as the server stores them. For who may read pg_authid.
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
    r.rolpassword AS password,
    r.rolvaliduntil::text AS valid_until,
    pg_catalog.shobj_description(r.oid, 'pg_authid') AS comment
FROM pg_catalog.pg_authid r
WHERE r.rolname !~ '^pg_'
ORDER BY name
