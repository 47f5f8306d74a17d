-- Tables of publications, with the publication.
SELECT
    6106::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    6104::oid AS whole_class,
    o.prpubid AS whole_oid,
    n.nspname::text AS schema,
    c.relname::text AS name
FROM pg_catalog.pg_publication_rel o
JOIN pg_catalog.pg_class c ON c.oid = o.prrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
