-- Conversions of encodings.
-- Parameters: $1 their oids.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.conname::text AS name,
    pg_catalog.pg_get_userbyid(c.conowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_conversion'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    c.condefault AS is_default,
    pg_catalog.pg_encoding_to_char(c.conforencoding)::text AS source_encoding,
    pg_catalog.pg_encoding_to_char(c.contoencoding)::text AS target_encoding,
    c.conproc::text AS function
FROM pg_catalog.pg_conversion c
JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
WHERE c.oid = ANY($1::oid[])
