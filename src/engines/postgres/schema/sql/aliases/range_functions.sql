-- Functions that a type makes: constructors of ranges and multiranges.
SELECT
    d.classid AS class,
    d.objid AS oid,
    d.refclassid AS of_class,
    d.refobjid AS of_oid
FROM pg_catalog.pg_depend d
WHERE d.deptype = 'i'
  AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
  AND d.objid >= 16384
