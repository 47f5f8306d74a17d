-- Statements that give the properties of the database :source to whichever is called :target when they run.
-- The server makes them, so that names and values are quoted by its own rules; the owner comes last. An empty
-- element of a list is stored as "", which SQL refuses as a name: it is written as a string.
SELECT
    1 AS place,
    pg_catalog.format('ALTER DATABASE %s CONNECTION LIMIT %s', :target, datconnlimit) AS statement
FROM pg_catalog.pg_database
WHERE datname = :source AND datconnlimit >= -1
UNION ALL
SELECT 2, pg_catalog.format('ALTER DATABASE %s IS_TEMPLATE true', :target)
FROM pg_catalog.pg_database
WHERE datname = :source AND datistemplate
UNION ALL
SELECT 4, pg_catalog.format('REVOKE ALL ON DATABASE %s FROM PUBLIC', :target)
FROM pg_catalog.pg_database
WHERE datname = :source AND datacl IS NOT NULL
UNION ALL
SELECT
    5,
    pg_catalog.format(
        'GRANT %s ON DATABASE %s TO %s%s',
        a.privilege_type,
        :target,
        CASE
            WHEN a.grantee = 0 THEN 'PUBLIC'
            ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee))
        END,
        CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    )
FROM pg_catalog.pg_database d,
    pg_catalog.aclexplode(d.datacl) a
WHERE d.datname = :source
UNION ALL
SELECT
    6,
    pg_catalog.format(
        CASE
            WHEN s.setrole = 0 THEN 'ALTER DATABASE %2$s SET %3$I TO %4$s'
            ELSE 'ALTER ROLE %1$I IN DATABASE %2$s SET %3$I TO %4$s'
        END,
        pg_catalog.pg_get_userbyid(s.setrole),
        :target,
        pg_catalog.split_part(c, '=', 1),
        CASE
            WHEN pg_catalog.lower(pg_catalog.split_part(c, '=', 1)) IN (
                'search_path',
                'temp_tablespaces',
                'session_preload_libraries',
                'local_preload_libraries',
                'shared_preload_libraries',
                'unix_socket_directories'
            ) THEN pg_catalog.regexp_replace(
                pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1),
                E'(^|,\\s*)""(?=\\s*(,|$))',
                E'\\1''''',
                'g'
            )
            ELSE pg_catalog.quote_literal(pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1))
        END
    )
FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase,
    pg_catalog.unnest(s.setconfig) c
WHERE d.datname = :source
UNION ALL
SELECT
    9,
    pg_catalog.format('ALTER DATABASE %s OWNER TO %I', :target, pg_catalog.pg_get_userbyid(datdba))
FROM pg_catalog.pg_database
WHERE datname = :source
ORDER BY place
