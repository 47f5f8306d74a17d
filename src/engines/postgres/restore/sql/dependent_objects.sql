-- Objects that depend on what goes, and do not go themselves.
-- A rule that makes a view is told by the view; foreign keys are made again; a constraint trigger goes with the
-- table that it names second. :gone is gone.sql.
:gone
SELECT DISTINCT CASE
    WHEN r.oid IS NOT NULL THEN pg_catalog.pg_describe_object(1259, r.ev_class, 0)
    ELSE pg_catalog.pg_describe_object(d.classid, d.objid, 0)
END AS name
FROM gone g
JOIN pg_catalog.pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid AND d.deptype = 'n'
LEFT JOIN pg_catalog.pg_rewrite r
    ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    AND r.oid = d.objid
    AND r.rulename = '_RETURN'
WHERE NOT EXISTS (
    SELECT
    FROM gone h
    WHERE h.classid = d.classid AND h.objid = d.objid
)
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_constraint k
      WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
        AND k.oid = d.objid
        AND k.contype = 'f'
  )
UNION
SELECT pg_catalog.pg_describe_object(2620, t.oid, 0)
FROM gone g
JOIN pg_catalog.pg_trigger t
    ON g.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND t.oid = g.objid
WHERE NOT t.tgisinternal
  AND NOT EXISTS (
      SELECT
      FROM gone h
      WHERE h.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND h.objid = t.tgrelid
  )
ORDER BY name
