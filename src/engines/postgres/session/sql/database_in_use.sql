-- Whether somebody is in a database, or fills it. :oid is the database's; :lock the first key of the advisory
-- lock.
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE datid = :oid)
OR EXISTS (
    SELECT
    FROM pg_catalog.pg_locks
    WHERE locktype = 'advisory'
      AND pg_locks.classid = :lock
      AND objid = :oid
      AND objsubid = 2
) AS in_use
