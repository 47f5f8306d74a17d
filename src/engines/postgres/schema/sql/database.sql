-- This database.
SELECT
    d.datname::text AS name,
    pg_catalog.pg_get_userbyid(d.datdba)::text AS owner,
    pg_catalog.shobj_description(d.oid, 'pg_database') AS comment,
    d.datconnlimit AS connection_limit,
    d.datistemplate AS is_template
FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
