-- Views whose query names a column of the view itself. As a rule every view's rule depends on the whole view.
SELECT DISTINCT r.ev_class AS view
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_class = d.refobjid AND r.ev_type = '1'
WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.refobjsubid > 0
  AND d.objid >= 16384
