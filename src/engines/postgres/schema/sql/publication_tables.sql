-- Tables of publications, with the columns (none: all) and the condition on rows.
-- Parameters: $1 their oids.
-- Versions: columns and conditions from 15 on.
SELECT
    r.oid,
    p.pubname::text AS publication,
    -- since 15
    pg_catalog.pg_get_expr(r.prqual, r.prrelid) AS filter,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.unnest(r.prattrs) WITH ORDINALITY k(number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = k.number
        ORDER BY k.place
    ) AS columns,
    -- before 15
    NULL::text AS filter,
    NULL::text[] AS columns,
    -- end
    r.prrelid AS relation
FROM pg_catalog.pg_publication_rel r
JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
WHERE r.oid = ANY($1::oid[])
