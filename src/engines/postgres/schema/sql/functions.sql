-- Functions and procedures.
-- unknown_settings: settings of a function that its server does not know itself. A name with a dot may be an
-- extension's that is not loaded.
-- Parameters: $1 their oids.
SELECT
    p.oid,
    pg_catalog.pg_get_functiondef(p.oid) AS definition,
    n.nspname::text AS schema,
    p.proname::text AS name,
    pg_catalog.pg_get_function_identity_arguments(p.oid) AS arguments,
    p.prokind::text AS kind,
    pg_catalog.pg_get_userbyid(p.proowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = p.oid
          AND ds.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    ARRAY(
        SELECT e.extname::text
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
          AND d.objid = p.oid
          AND d.deptype = 'x'
          AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
        ORDER BY e.extname::text
    ) AS needed_extensions,
    ARRAY(
        SELECT x.name
        FROM pg_catalog.unnest(p.proconfig) c(stored),
            LATERAL (SELECT pg_catalog.split_part(c.stored, '=', 1) AS name) x
        WHERE x.name !~ '[.]' AND pg_catalog.current_setting(x.name, true) IS NULL
    ) AS unknown_settings
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid = ANY($1::oid[])
