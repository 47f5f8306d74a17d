-- The beginning of queries about tables that go: gone(classid, objid), everything that goes with the tables, and the
-- views over them with all that goes with those. :oids is the array of the tables.
WITH RECURSIVE gone(classid, objid) AS (
    SELECT 1259::pg_catalog.oid, o
    FROM pg_catalog.unnest(:oids) o
    UNION
    SELECT u.classid, u.objid
    FROM gone g
    JOIN pg_catalog.pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
    LEFT JOIN pg_catalog.pg_rewrite r
        ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
        AND r.oid = d.objid
        AND r.rulename = '_RETURN'
    LEFT JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind = 'v',
        LATERAL (
            VALUES
                (d.classid, d.objid),
                (1259::pg_catalog.oid, v.oid)
        ) u(classid, objid)
    WHERE u.objid IS NOT NULL
      AND (d.deptype IN ('a', 'i', 'P', 'S') OR (d.deptype = 'n' AND v.oid IS NOT NULL))
)
