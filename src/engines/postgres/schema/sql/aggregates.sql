-- Aggregates, with their functions by name.
-- Parameters: $1 their oids.
SELECT
    p.oid,
    n.nspname::text AS schema,
    p.proname::text AS name,
    pg_catalog.pg_get_function_arguments(p.oid) AS arguments,
    pg_catalog.pg_get_function_identity_arguments(p.oid) AS identity_arguments,
    pg_catalog.pg_get_userbyid(p.proowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = p.oid
          AND ds.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    a.aggkind::text AS kind,
    pg_catalog.format_type(a.aggtranstype, NULL) AS state_type,
    CASE
        WHEN a.aggmtranstype <> 0 THEN pg_catalog.format_type(a.aggmtranstype, NULL)
    END AS moving_state_type,
    a.aggtransspace AS state_space,
    a.aggmtransspace AS moving_state_space,
    a.agginitval AS initial,
    a.aggminitval AS moving_initial,
    a.aggfinalextra AS final_extra,
    a.aggmfinalextra AS moving_final_extra,
    a.aggfinalmodify::text AS final_modify,
    a.aggmfinalmodify::text AS moving_final_modify,
    p.proparallel::text AS parallel,
    (
        SELECT 'OPERATOR(' || pg_catalog.quote_ident(opn.nspname) || '.' || o.oprname || ')'
        FROM pg_catalog.pg_operator o
        JOIN pg_catalog.pg_namespace opn ON opn.oid = o.oprnamespace
        WHERE o.oid = a.aggsortop
    ) AS sort_operator,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = a.aggtransfn
    ) AS transition,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = a.aggfinalfn
    ) AS final,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = a.aggcombinefn
    ) AS combine,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = a.aggserialfn
    ) AS serial,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = a.aggdeserialfn
    ) AS deserial,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = a.aggmtransfn
    ) AS moving_transition,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = a.aggminvtransfn
    ) AS moving_inverse,
    (
        SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
        WHERE f.oid = a.aggmfinalfn
    ) AS moving_final
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid
WHERE p.oid = ANY($1::oid[])
