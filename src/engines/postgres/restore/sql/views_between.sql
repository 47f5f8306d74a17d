-- Views that read from others of them. :views is the array of their oids.
SELECT DISTINCT r.ev_class AS view, d.refobjid AS needed
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d
    ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    AND d.objid = r.oid
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
WHERE r.rulename = '_RETURN'
  AND r.ev_class <> d.refobjid
  AND r.ev_class = ANY (:views)
  AND d.refobjid = ANY (:views)
