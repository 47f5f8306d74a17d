-- Values of settings that a session begins with, as a JSON array of name and value.
-- :names are those of settings that expressions rest on. What is set for the database itself stands above what
-- is set for all of them. :otherwise is the value where the role has one for itself, and the database has none:
-- setting_in_files.sql, or NULL for a role that may not read files.
WITH given AS (
    SELECT
        g.setrole,
        g.setdatabase,
        pg_catalog.lower(pg_catalog.split_part(c, '=', 1)) AS name,
        pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1) AS value
    FROM pg_catalog.pg_db_role_setting g,
        pg_catalog.unnest(g.setconfig) c
    WHERE g.setdatabase IN (
        0,
        (
            SELECT d.oid
            FROM pg_catalog.pg_database d
            WHERE d.datname = pg_catalog.current_database()
        )
    )
),
databases AS (
    SELECT DISTINCT ON (name) name, value
    FROM given
    WHERE setrole = 0
    ORDER BY name, setdatabase DESC
),
own AS (
    SELECT g.name
    FROM given g
    JOIN pg_catalog.pg_roles r ON r.oid = g.setrole
    WHERE r.rolname = SESSION_USER
)
SELECT COALESCE(
    pg_catalog.json_agg(pg_catalog.json_build_array(w.name, w.value)),
    '[]'
)::text AS settings
FROM (
    SELECT
        s.name,
        CASE
            WHEN NOT EXISTS (
                SELECT
                FROM own
                WHERE own.name = pg_catalog.lower(s.name)
            ) THEN s.reset_val
            ELSE COALESCE(
                (
                    SELECT d.value
                    FROM databases d
                    WHERE d.name = pg_catalog.lower(s.name)
                ),
                :otherwise
            )
        END AS value
    FROM pg_catalog.pg_settings s
    WHERE s.name IN (:names)
    UNION ALL
    SELECT d.name, d.value
    FROM databases d
    WHERE d.name ~ '[.]'
    ORDER BY 1
) w
WHERE w.value IS NOT NULL
