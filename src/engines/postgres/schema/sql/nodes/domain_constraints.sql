-- CHECK constraints of domains; the parent is the domain.
SELECT
    k.oid,
    'Cd' AS tag,
    0::oid AS schema,
    k.conname::text AS name,
    k.contypid AS parent,
    CASE WHEN k.convalidated THEN :inline ELSE 0 END AS flags,
    false AS has_acl
FROM pg_catalog.pg_constraint k
WHERE k.contypid >= 16384 AND k.contype = 'c'
