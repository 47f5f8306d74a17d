-- Comments, those of constraints with their table: what is no object of its own stands with it.
-- Those of large objects (2613) are written with them; those of subscriptions (6100) are of all databases.
SELECT
    d.classoid AS class,
    d.objoid AS oid,
    d.objsubid AS sub,
    COALESCE(k.conrelid, 0::oid) AS relation,
    d.classoid::pg_catalog.regclass::text AS catalog
FROM pg_catalog.pg_description d
LEFT JOIN pg_catalog.pg_constraint k
    ON d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objoid
WHERE d.objoid >= 16384 AND d.classoid NOT IN (2613, 6100)
