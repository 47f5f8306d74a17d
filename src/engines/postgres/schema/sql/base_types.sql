-- Base types; their functions are named as in pg_type.
-- Parameters: $1 their oids.
-- Versions: Subscripting from 14 on.
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
    t.typlen AS length,
    t.typbyval AS by_value,
    t.typalign::text AS alignment,
    t.typstorage::text AS storage,
    t.typcategory::text AS category,
    t.typispreferred AS preferred,
    t.typdelim::text AS delimiter,
    pg_catalog.pg_get_expr(t.typdefaultbin, 0) AS default_expression,
    t.typdefault AS default_text,
    CASE WHEN t.typelem <> 0 THEN pg_catalog.format_type(t.typelem, NULL) END AS element,
    t.typcollation <> 0 AS collatable,
    -- since 14
    NULLIF(t.typsubscript::oid, 0)::pg_catalog.regproc::text AS typsubscript,
    -- before 14
    NULL::text AS typsubscript,
    -- end
    NULLIF(t.typinput::oid, 0)::pg_catalog.regproc::text AS typinput,
    NULLIF(t.typoutput::oid, 0)::pg_catalog.regproc::text AS typoutput,
    NULLIF(t.typreceive::oid, 0)::pg_catalog.regproc::text AS typreceive,
    NULLIF(t.typsend::oid, 0)::pg_catalog.regproc::text AS typsend,
    NULLIF(t.typmodin::oid, 0)::pg_catalog.regproc::text AS typmodin,
    NULLIF(t.typmodout::oid, 0)::pg_catalog.regproc::text AS typmodout,
    NULLIF(t.typanalyze::oid, 0)::pg_catalog.regproc::text AS typanalyze
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid = ANY($1::oid[])
