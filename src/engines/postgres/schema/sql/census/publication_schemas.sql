-- Schemas whose tables a publication has, with the publication.
-- Versions: 15 and newer.
SELECT
    6237::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    6104::oid AS whole_class,
    o.pnpubid AS whole_oid,
    NULL::text AS schema,
    n.nspname::text AS name
FROM pg_catalog.pg_publication_namespace o
JOIN pg_catalog.pg_namespace n ON n.oid = o.pnnspid
