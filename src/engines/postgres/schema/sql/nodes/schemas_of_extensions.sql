-- Schemas that extensions make; the parent is the extension.
SELECT
    n.oid,
    'nx' AS tag,
    0::oid AS schema,
    n.nspname::text AS name,
    d.refobjid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_depend d
    ON d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
    AND d.objid = n.oid
    AND d.objsubid = 0
    AND d.deptype = 'e'
    AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
