-- Text search parsers.
-- Parameters: $1 their oids.
SELECT
    o.oid,
    n.nspname::text AS schema,
    o.prsname::text AS name,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = o.oid
          AND ds.classoid = 'pg_catalog.pg_ts_parser'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    NULLIF(o.prsstart::oid, 0)::pg_catalog.regproc::text AS start,
    NULLIF(o.prstoken::oid, 0)::pg_catalog.regproc::text AS gettoken,
    NULLIF(o.prsend::oid, 0)::pg_catalog.regproc::text AS end_function,
    NULLIF(o.prsheadline::oid, 0)::pg_catalog.regproc::text AS headline,
    NULLIF(o.prslextype::oid, 0)::pg_catalog.regproc::text AS lextypes
FROM pg_catalog.pg_ts_parser o
JOIN pg_catalog.pg_namespace n ON n.oid = o.prsnamespace
WHERE o.oid = ANY($1::oid[])
