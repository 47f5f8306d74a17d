-- Sessions that wait for a lock on a relation behind a session of ours. :leader is its process.
-- Versions: the column with the time of waiting came with 14; before, the statement's age has to do.
SELECT DISTINCT ON (l.pid)
    l.pid,
    a.usename AS role,
    a.application_name AS application,
    pg_catalog.left(a.query, 120) AS statement,
    l.relation::pg_catalog.regclass::text AS relation,
    GREATEST(
        pg_catalog.floor(
            1000 * EXTRACT(
                epoch FROM pg_catalog.clock_timestamp() - COALESCE(
                    (pg_catalog.to_jsonb(l) ->> 'waitstart')::timestamptz,
                    a.query_start
                )
            )
        ),
        0
    )::bigint AS waited_ms
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE NOT l.granted
  AND l.locktype = 'relation'
  AND :leader = ANY (pg_catalog.pg_blocking_pids(l.pid))
ORDER BY l.pid
LIMIT 20
