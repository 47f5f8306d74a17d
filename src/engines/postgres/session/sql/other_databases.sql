-- Other databases that the role may connect to, templates first.
SELECT datname AS name
FROM pg_catalog.pg_database
WHERE datallowconn
  AND datname <> pg_catalog.current_database()
  AND pg_catalog.has_database_privilege(oid, 'CONNECT')
ORDER BY datistemplate DESC, datname
