-- Dependencies, but for those of operators and functions on their families (classes 2602 and 2603).
-- Rows of built-in objects never matter: nothing before 16384 is created. Schemas do: public is built-in.
SELECT
    d.classid AS class,
    d.objid AS oid,
    d.refclassid AS needed_class,
    d.refobjid AS needed_oid
FROM pg_catalog.pg_depend d
WHERE d.deptype NOT IN ('p', 'e')
  AND NOT (d.deptype = 'i' AND d.classid IN (2602, 2603))
  AND d.objid >= 16384
  AND (d.refobjid >= 16384 OR d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass)
