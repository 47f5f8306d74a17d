-- Places of tables in publications, with what follows the table's name. :oids is the array of the tables.
-- Versions: columns and conditions of publications from 15 on.
SELECT
    pg_catalog.quote_ident(p.pubname) AS publication,
    r.prrelid::pg_catalog.regclass AS table_name,
    -- since 15
    COALESCE(
        ' ('
            || (
                SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY u.place)
                FROM pg_catalog.unnest(r.prattrs) WITH ORDINALITY u(number, place)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = u.number
            )
            || ')',
        ''
    ) || COALESCE(' WHERE (' || pg_catalog.pg_get_expr(r.prqual, r.prrelid) || ')', '') AS rest,
    -- before 15
    '' AS rest,
    -- end
    r.oid
FROM pg_catalog.pg_publication_rel r
JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
WHERE r.prrelid = ANY (:oids)
ORDER BY publication, table_name
