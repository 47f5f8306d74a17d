-- Statements that make what belongs to views again: owner, defaults, rules, triggers, comments, rights.
-- The server makes them, so that names are quoted by its own rules. :views is the array of the views' oids.
SELECT
    c.oid AS view,
    0 AS kind,
    0 AS place,
    pg_catalog.format(
        'ALTER VIEW %s OWNER TO %I',
        c.oid::pg_catalog.regclass,
        pg_catalog.pg_get_userbyid(c.relowner)
    ) AS statement
FROM pg_catalog.pg_class c
WHERE c.oid = ANY (:views)
UNION ALL
SELECT
    c.oid,
    1,
    a.attnum,
    pg_catalog.format(
        'ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s',
        c.oid::pg_catalog.regclass,
        a.attname,
        pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    )
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.oid = ANY (:views)
UNION ALL
SELECT
    r.ev_class,
    2,
    r.oid::pg_catalog.int8,
    pg_catalog.pg_get_ruledef(r.oid)
FROM pg_catalog.pg_rewrite r
WHERE r.rulename <> '_RETURN' AND r.ev_class = ANY (:views)
UNION ALL
SELECT
    r.ev_class,
    3,
    0,
    pg_catalog.format('ALTER TABLE %s %s %I', r.ev_class::pg_catalog.regclass, s.word, r.rulename)
FROM pg_catalog.pg_rewrite r
JOIN (
    VALUES
        ('D', 'DISABLE RULE'),
        ('A', 'ENABLE ALWAYS RULE'),
        ('R', 'ENABLE REPLICA RULE')
) s(state, word) ON s.state = r.ev_enabled::text
WHERE r.rulename <> '_RETURN' AND r.ev_class = ANY (:views)
UNION ALL
SELECT
    t.tgrelid,
    4,
    t.oid::pg_catalog.int8,
    pg_catalog.pg_get_triggerdef(t.oid)
FROM pg_catalog.pg_trigger t
WHERE NOT t.tgisinternal AND t.tgrelid = ANY (:views)
UNION ALL
SELECT
    t.tgrelid,
    5,
    0,
    pg_catalog.format('ALTER TABLE %s %s %I', t.tgrelid::pg_catalog.regclass, s.word, t.tgname)
FROM pg_catalog.pg_trigger t
JOIN (
    VALUES
        ('D', 'DISABLE TRIGGER'),
        ('A', 'ENABLE ALWAYS TRIGGER'),
        ('R', 'ENABLE REPLICA TRIGGER')
) s(state, word) ON s.state = t.tgenabled::text
WHERE NOT t.tgisinternal AND t.tgrelid = ANY (:views)
UNION ALL
SELECT
    c.oid,
    6,
    0,
    pg_catalog.format(
        'COMMENT ON VIEW %s IS %L',
        c.oid::pg_catalog.regclass,
        pg_catalog.obj_description(c.oid, 'pg_class')
    )
FROM pg_catalog.pg_class c
WHERE c.oid = ANY (:views) AND pg_catalog.obj_description(c.oid, 'pg_class') IS NOT NULL
UNION ALL
SELECT
    c.oid,
    7,
    a.attnum,
    pg_catalog.format(
        'COMMENT ON COLUMN %s.%I IS %L',
        c.oid::pg_catalog.regclass,
        a.attname,
        pg_catalog.col_description(c.oid, a.attnum)
    )
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = ANY (:views) AND pg_catalog.col_description(c.oid, a.attnum) IS NOT NULL
UNION ALL
SELECT
    r.ev_class,
    8,
    0,
    pg_catalog.format(
        'COMMENT ON RULE %I ON %s IS %L',
        r.rulename,
        r.ev_class::pg_catalog.regclass,
        pg_catalog.obj_description(r.oid, 'pg_rewrite')
    )
FROM pg_catalog.pg_rewrite r
WHERE r.rulename <> '_RETURN'
  AND r.ev_class = ANY (:views)
  AND pg_catalog.obj_description(r.oid, 'pg_rewrite') IS NOT NULL
UNION ALL
SELECT
    t.tgrelid,
    9,
    0,
    pg_catalog.format(
        'COMMENT ON TRIGGER %I ON %s IS %L',
        t.tgname,
        t.tgrelid::pg_catalog.regclass,
        pg_catalog.obj_description(t.oid, 'pg_trigger')
    )
FROM pg_catalog.pg_trigger t
WHERE NOT t.tgisinternal
  AND t.tgrelid = ANY (:views)
  AND pg_catalog.obj_description(t.oid, 'pg_trigger') IS NOT NULL
UNION ALL
SELECT
    c.oid,
    10,
    0,
    pg_catalog.format(
        'REVOKE ALL ON %s FROM %I',
        c.oid::pg_catalog.regclass,
        pg_catalog.pg_get_userbyid(c.relowner)
    )
FROM pg_catalog.pg_class c
WHERE c.oid = ANY (:views) AND c.relacl IS NOT NULL
UNION ALL
SELECT
    c.oid,
    11,
    x.place,
    pg_catalog.format(
        'GRANT %s ON %s TO %s%s',
        x.privilege_type,
        c.oid::pg_catalog.regclass,
        CASE x.grantee
            WHEN 0 THEN 'PUBLIC'
            ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee))
        END,
        CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    )
FROM pg_catalog.pg_class c,
    LATERAL pg_catalog.aclexplode(c.relacl) WITH ORDINALITY x(
        grantor,
        grantee,
        privilege_type,
        is_grantable,
        place
    )
WHERE c.oid = ANY (:views)
UNION ALL
SELECT
    c.oid,
    12,
    a.attnum * 1000 + x.place,
    pg_catalog.format(
        'GRANT %s (%I) ON %s TO %s%s',
        x.privilege_type,
        a.attname,
        c.oid::pg_catalog.regclass,
        CASE x.grantee
            WHEN 0 THEN 'PUBLIC'
            ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee))
        END,
        CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    )
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
    LATERAL pg_catalog.aclexplode(a.attacl) WITH ORDINALITY x(
        grantor,
        grantee,
        privilege_type,
        is_grantable,
        place
    )
WHERE c.oid = ANY (:views)
ORDER BY view, kind, place
