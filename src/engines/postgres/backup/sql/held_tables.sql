-- Relations of this database that a session has locked against changes. :process is its process.
SELECT h.relation
FROM pg_catalog.pg_locks h
WHERE h.pid = :process
  AND h.locktype = 'relation'
  AND h.granted
  AND h.mode = 'AccessShareLock'
  AND h.database = (
      SELECT b.oid
      FROM pg_catalog.pg_database b
      WHERE b.datname = pg_catalog.current_database()
  )
