-- Number of sessions that the role, and the database, have left; null if there is no limit.
SELECT CASE
    WHEN NOT r.rolsuper THEN LEAST(
        CASE
            WHEN r.rolconnlimit >= 0 THEN r.rolconnlimit - (
                SELECT pg_catalog.count(*)
                FROM pg_catalog.pg_stat_activity
                WHERE usename = r.rolname
            )
        END,
        CASE
            WHEN d.datconnlimit >= 0 THEN d.datconnlimit - (
                SELECT pg_catalog.count(*)
                FROM pg_catalog.pg_stat_activity
                WHERE datname = d.datname
            )
        END
    )
END AS room
FROM pg_catalog.pg_roles r,
    pg_catalog.pg_database d
WHERE r.rolname = session_user AND d.datname = pg_catalog.current_database()
