-- Views with the statements that make them. :views is the array of their oids.
SELECT
    c.oid,
    c.oid::pg_catalog.regclass AS name,
    pg_catalog.format(
        'CREATE VIEW %s%s AS %s',
        c.oid::pg_catalog.regclass,
        ' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')',
        pg_catalog.pg_get_viewdef(c.oid)
    ) AS statement
FROM pg_catalog.pg_class c
WHERE c.oid = ANY (:views)
ORDER BY c.oid
