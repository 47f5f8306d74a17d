-- Range types. No schema of an operator class: it is the default one of the subtype.
-- Parameters: $1 their oids.
-- Versions: Multiranges from 14 on.
SELECT
    t.oid,
    n.nspname::text AS schema,
    t.typname::text AS name,
    pg_catalog.pg_get_userbyid(t.typowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = t.oid
          AND ds.classoid = 'pg_catalog.pg_type'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    pg_catalog.format_type(r.rngsubtype, NULL) AS subtype,
    -- since 14
    mn.nspname::text AS multirange_schema,
    m.typname::text AS multirange_name,
    -- before 14
    NULL::text AS multirange_schema,
    NULL::text AS multirange_name,
    -- end
    CASE WHEN NOT o.opcdefault THEN on_.nspname::text END AS opclass_schema,
    o.opcname::text AS opclass_name,
    cn.nspname::text AS collation_schema,
    co.collname::text AS collation_name,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = r.rngcanonical
    ) AS canonical,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = r.rngsubdiff
    ) AS subtype_diff
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
JOIN pg_catalog.pg_type st ON st.oid = r.rngsubtype
JOIN pg_catalog.pg_opclass o ON o.oid = r.rngsubopc
JOIN pg_catalog.pg_namespace on_ ON on_.oid = o.opcnamespace
LEFT JOIN pg_catalog.pg_collation co ON co.oid = r.rngcollation AND r.rngcollation <> st.typcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
-- since 14
LEFT JOIN pg_catalog.pg_type m ON m.oid = r.rngmultitypid
LEFT JOIN pg_catalog.pg_namespace mn ON mn.oid = m.typnamespace
-- end
WHERE t.oid = ANY($1::oid[])
