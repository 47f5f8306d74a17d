-- Rules that are a view's query: parts of the view.
SELECT
    2618::oid AS class,
    r.oid,
    1259::oid AS of_class,
    r.ev_class AS of_oid
FROM pg_catalog.pg_rewrite r
WHERE r.rulename = '_RETURN' AND r.oid >= 16384
