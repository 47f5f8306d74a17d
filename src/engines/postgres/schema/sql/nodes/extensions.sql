-- Extensions.
SELECT
    e.oid,
    'x' AS tag,
    0::oid AS schema,
    e.extname::text AS name,
    0::oid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_extension e
WHERE e.oid >= 16384
