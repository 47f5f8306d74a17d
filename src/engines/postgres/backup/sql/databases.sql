-- Databases but for the templates of the server, and why one cannot be backed up: datconnlimit -2 is an
-- interrupted DROP.
SELECT
    datname AS name,
    oid,
    CASE
        WHEN datconnlimit = -2 THEN 'it is invalid: its DROP was interrupted'
        WHEN NOT datallowconn THEN 'it allows no connections'
    END AS why
FROM pg_catalog.pg_database
WHERE datname NOT IN ('template0', 'template1')
ORDER BY datname
