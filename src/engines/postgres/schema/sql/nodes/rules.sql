-- Rules that are no view's query; the parent is the relation.
SELECT
    r.oid,
    'R' AS tag,
    0::oid AS schema,
    r.rulename::text AS name,
    r.ev_class AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_rewrite r
WHERE r.oid >= 16384 AND r.rulename <> '_RETURN'
