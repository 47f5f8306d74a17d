-- The databases of a cluster, and whether one can connect to them: not to a template that is closed, nor to one whose
-- removal was interrupted.
SELECT datname AS name, datallowconn AND datconnlimit <> -2 AS is_open
FROM pg_catalog.pg_database
ORDER BY oid
