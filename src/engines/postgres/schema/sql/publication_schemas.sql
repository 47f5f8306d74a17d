-- Schemas whose tables a publication has.
-- Parameters: $1 their oids.
-- Versions: 15 and newer.
SELECT r.oid, p.pubname::text AS publication, n.nspname::text AS schema
FROM pg_catalog.pg_publication_namespace r
JOIN pg_catalog.pg_publication p ON p.oid = r.pnpubid
JOIN pg_catalog.pg_namespace n ON n.oid = r.pnnspid
WHERE r.oid = ANY($1::oid[])
