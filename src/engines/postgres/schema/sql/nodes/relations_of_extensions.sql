-- Relations that extensions make; the parent is the extension.
SELECT
    c.oid,
    'cx' AS tag,
    c.relnamespace AS schema,
    c.relname::text AS name,
    d.refobjid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_depend d
    ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND d.objid = c.oid
    AND d.objsubid = 0
    AND d.deptype = 'e'
    AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
