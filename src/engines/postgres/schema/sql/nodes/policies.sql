-- Policies of row security; the parent is the table.
SELECT
    p.oid,
    'L' AS tag,
    0::oid AS schema,
    p.polname::text AS name,
    p.polrelid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_policy p
WHERE p.oid >= 16384
