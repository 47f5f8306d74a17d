-- Operators and functions that depend on operator families or classes, as items of their definitions.
-- Parameters: $1 oids of the families or classes; $2 oid of their catalog.
SELECT
    d.refobjid AS container,
    'OPERATOR '
        || o.amopstrategy
        || ' '
        || o.amopopr::pg_catalog.regoperator::text
        || COALESCE(
            ' FOR ORDER BY '
                || pg_catalog.quote_ident(fn.nspname)
                || '.'
                || pg_catalog.quote_ident(f.opfname),
            ''
        ) AS definition,
    0 AS part,
    o.amopstrategy AS number,
    o.oid
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_amop o ON o.oid = d.objid
LEFT JOIN pg_catalog.pg_opfamily f ON f.oid = o.amopsortfamily
LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.opfnamespace
WHERE d.classid = 'pg_catalog.pg_amop'::pg_catalog.regclass
  AND d.refclassid = $2
  AND d.refobjid = ANY($1::oid[])
UNION ALL
SELECT
    d.refobjid,
    'FUNCTION '
        || p.amprocnum
        || ' ('
        || pg_catalog.format_type(p.amproclefttype, NULL)
        || ', '
        || pg_catalog.format_type(p.amprocrighttype, NULL)
        || ') '
        || p.amproc::pg_catalog.regprocedure::text,
    1,
    p.amprocnum,
    p.oid
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_amproc p ON p.oid = d.objid
WHERE d.classid = 'pg_catalog.pg_amproc'::pg_catalog.regclass
  AND d.refclassid = $2
  AND d.refobjid = ANY($1::oid[])
ORDER BY container, part, number, definition
