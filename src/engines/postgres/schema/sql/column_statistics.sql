-- What the planner knows of the columns of tables and of expressions of their indexes, named as in pg_stats.
-- The condition on names alone can be used before the view's own, which keeps foreign rows from us.
-- Parameters: $1 oids of the tables.
-- Versions: statistics of ranges from 17 on.
WITH wanted(tab, rel) AS (
    SELECT t, t
    FROM pg_catalog.unnest($1::oid[]) t
    UNION ALL
    SELECT x.indrelid, x.indexrelid
    FROM pg_catalog.pg_index x
    WHERE x.indrelid = ANY($1::oid[])
)
SELECT
    w.tab AS table_oid,
    w.rel AS relation,
    c.relname::text AS name,
    a.attname::text AS column_name,
    a.attnum AS number,
    -- since 17
    s.range_length_histogram::text AS range_length_histogram,
    s.range_empty_frac::text AS range_empty_frac,
    s.range_bounds_histogram::text AS range_bounds_histogram,
    -- before 17
    NULL::text AS range_length_histogram,
    NULL::text AS range_empty_frac,
    NULL::text AS range_bounds_histogram,
    -- end
    s.inherited,
    s.null_frac::text AS null_frac,
    s.avg_width::text AS avg_width,
    s.n_distinct::text AS n_distinct,
    s.most_common_vals::text AS most_common_vals,
    s.most_common_freqs::text AS most_common_freqs,
    s.histogram_bounds::text AS histogram_bounds,
    s.correlation::text AS correlation,
    s.most_common_elems::text AS most_common_elems,
    s.most_common_elem_freqs::text AS most_common_elem_freqs,
    s.elem_count_histogram::text AS elem_count_histogram
FROM wanted w
JOIN pg_catalog.pg_class c ON c.oid = w.rel
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = s.attname
WHERE s.tablename = ANY(
    ARRAY(SELECT r.relname FROM wanted v JOIN pg_catalog.pg_class r ON r.oid = v.rel)
)
ORDER BY w.tab, w.rel, a.attnum, s.inherited
