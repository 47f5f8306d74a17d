-- The database that a restore would fill: its size, how many objects of users it holds, and how it was made.
-- Versions: provider and locale of a database from 15 on, by these names from 17 on.
SELECT
    pg_catalog.pg_database_size(d.oid) AS bytes,
    pg_catalog.pg_has_role(d.datdba, 'USAGE') AS owned,
    (
        SELECT pg_catalog.count(*)
        FROM pg_catalog.pg_class
        WHERE oid >= 16384 AND relnamespace::pg_catalog.regnamespace::text !~ '^pg_'
    )
        + (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc WHERE oid >= 16384)
        + (SELECT pg_catalog.count(*) FROM pg_catalog.pg_type WHERE oid >= 16384)
        + (
            SELECT pg_catalog.count(*)
            FROM pg_catalog.pg_namespace
            WHERE oid >= 16384 AND nspname !~ '^pg_'
        )
        + (
            SELECT pg_catalog.count(*)
            FROM pg_catalog.pg_largeobject_metadata
        ) AS objects,
    pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
    d.datcollate AS lc_collate,
    d.datctype AS lc_ctype,
    pg_catalog.to_jsonb(d) ->> 'datlocprovider' AS locale_provider,
    COALESCE(
        pg_catalog.to_jsonb(d) ->> 'datlocale',
        pg_catalog.to_jsonb(d) ->> 'daticulocale'
    ) AS locale,
    pg_catalog.to_jsonb(d) ->> 'daticurules' AS locale_rules,
    (
        SELECT spcname
        FROM pg_catalog.pg_tablespace
        WHERE oid = d.dattablespace
    ) AS tablespace
FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
