-- Transforms.
-- Parameters: $1 their oids.
SELECT
    t.oid,
    pg_catalog.format_type(t.trftype, NULL) AS type,
    l.lanname::text AS language,
    CASE WHEN t.trffromsql <> 0 THEN t.trffromsql::pg_catalog.regprocedure::text END AS from_sql,
    CASE WHEN t.trftosql <> 0 THEN t.trftosql::pg_catalog.regprocedure::text END AS to_sql,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = t.oid
          AND ds.classoid = 'pg_catalog.pg_transform'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_transform t
JOIN pg_catalog.pg_language l ON l.oid = t.trflang
WHERE t.oid = ANY($1::oid[])
