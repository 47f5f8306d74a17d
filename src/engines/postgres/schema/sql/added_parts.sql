-- Parts of extensions' relations that came with none of the transactions in which their extension made members.
SELECT p.class, p.oid
FROM (
    SELECT
        2606::oid AS class,
        k.oid,
        k.xmin AS made,
        k.conrelid AS relation
    FROM pg_catalog.pg_constraint k
    WHERE k.conrelid >= 16384 AND k.contype <> 'n'
    UNION ALL
    SELECT
        1259,
        i.indexrelid,
        i.xmin,
        i.indrelid
    FROM pg_catalog.pg_index i
    WHERE i.indrelid >= 16384
    UNION ALL
    SELECT
        2620,
        t.oid,
        t.xmin,
        t.tgrelid
    FROM pg_catalog.pg_trigger t
    WHERE NOT t.tgisinternal AND t.tgrelid >= 16384
    UNION ALL
    SELECT
        2618,
        r.oid,
        r.xmin,
        r.ev_class
    FROM pg_catalog.pg_rewrite r
    WHERE r.rulename <> '_RETURN' AND r.ev_class >= 16384
    UNION ALL
    SELECT
        3256,
        l.oid,
        l.xmin,
        l.polrelid
    FROM pg_catalog.pg_policy l
    WHERE l.polrelid >= 16384
) p
JOIN pg_catalog.pg_depend m
    ON m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND m.objid = p.relation
    AND m.objsubid = 0
    AND m.deptype = 'e'
    AND m.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
WHERE NOT EXISTS (
    SELECT
    FROM pg_catalog.pg_depend e
    WHERE e.deptype = 'e'
      AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
      AND e.refobjid = m.refobjid
      AND e.xmin = p.made
)
ORDER BY class, oid
