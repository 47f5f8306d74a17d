-- Security labels of this database's objects; those of tablespaces, roles and databases (1213, 1260, 1262) are
-- the server's.
SELECT
    l.objtype AS object_type,
    l.objname AS object_name,
    l.provider,
    l.label,
    l.classoid AS class,
    l.objoid AS oid
FROM pg_catalog.pg_seclabels l
WHERE l.classoid NOT IN (1213, 1260, 1262)
ORDER BY l.classoid, l.objoid, l.objsubid, l.provider
