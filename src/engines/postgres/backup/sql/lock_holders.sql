-- Sessions that hold a lock that ours would wait for.
SELECT DISTINCT
    a.pid,
    a.usename AS role,
    a.application_name AS application,
    l.relation::pg_catalog.regclass::text AS relation
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.mode = 'AccessExclusiveLock'
  AND l.locktype = 'relation'
  AND a.pid <> pg_catalog.pg_backend_pid()
  AND l.database = (
      SELECT oid
      FROM pg_catalog.pg_database
      WHERE datname = pg_catalog.current_database()
  )
LIMIT 5
