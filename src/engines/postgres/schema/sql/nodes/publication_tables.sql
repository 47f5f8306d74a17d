-- Tables of publications; the parent is the publication.
SELECT
    p.oid,
    'q' AS tag,
    0::oid AS schema,
    c.relname::text AS name,
    p.prpubid AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_publication_rel p
JOIN pg_catalog.pg_class c ON c.oid = p.prrelid
