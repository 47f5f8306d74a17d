-- Whether the role may create databases, and how many sessions it has left (null: no limit).
SELECT
    (
        SELECT rolcreatedb OR rolsuper
        FROM pg_catalog.pg_roles
        WHERE rolname = current_user
    ) AS creates,
    (
        SELECT CASE
            WHEN NOT rolsuper
                AND rolconnlimit >= 0 THEN rolconnlimit - (
                    SELECT pg_catalog.count(*)
                    FROM pg_catalog.pg_stat_activity
                    WHERE usename = session_user
                )
        END
        FROM pg_catalog.pg_roles
        WHERE rolname = session_user
    ) AS room
