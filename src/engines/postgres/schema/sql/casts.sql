-- Casts.
-- Parameters: $1 their oids.
SELECT
    c.oid,
    pg_catalog.format_type(c.castsource, NULL) AS source,
    pg_catalog.format_type(c.casttarget, NULL) AS target,
    c.castmethod::text AS method,
    CASE WHEN c.castfunc <> 0 THEN c.castfunc::pg_catalog.regprocedure::text END AS function,
    c.castcontext::text AS context,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_cast'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_cast c
WHERE c.oid = ANY($1::oid[])
