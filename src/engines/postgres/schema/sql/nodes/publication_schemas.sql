-- Schemas whose tables a publication has; the parent is the publication.
-- Versions: 15 and newer.
SELECT
    p.oid,
    'y' AS tag,
    0::oid AS schema,
    n.nspname::text AS name,
    p.pnpubid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_publication_namespace p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pnnspid
