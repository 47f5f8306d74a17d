-- Operators.
-- Parameters: $1 their oids.
SELECT
    o.oid,
    n.nspname::text AS schema,
    o.oprname::text AS name,
    pg_catalog.pg_get_userbyid(o.oprowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = o.oid
          AND ds.classoid = 'pg_catalog.pg_operator'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    CASE WHEN o.oprleft <> 0 THEN pg_catalog.format_type(o.oprleft, NULL) END AS left_type,
    CASE WHEN o.oprright <> 0 THEN pg_catalog.format_type(o.oprright, NULL) END AS right_type,
    o.oprcode::text AS function,
    (
        SELECT 'OPERATOR(' || pg_catalog.quote_ident(xn.nspname) || '.' || x.oprname || ')'
        FROM pg_catalog.pg_operator x
        JOIN pg_catalog.pg_namespace xn ON xn.oid = x.oprnamespace
        WHERE x.oid = o.oprcom
    ) AS commutator,
    (
        SELECT 'OPERATOR(' || pg_catalog.quote_ident(xn.nspname) || '.' || x.oprname || ')'
        FROM pg_catalog.pg_operator x
        JOIN pg_catalog.pg_namespace xn ON xn.oid = x.oprnamespace
        WHERE x.oid = o.oprnegate
    ) AS negator,
    NULLIF(o.oprrest::oid, 0)::pg_catalog.regproc::text AS restriction,
    NULLIF(o.oprjoin::oid, 0)::pg_catalog.regproc::text AS join_estimator,
    o.oprcanmerge AS merges,
    o.oprcanhash AS hashes
FROM pg_catalog.pg_operator o
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
WHERE o.oid = ANY($1::oid[])
