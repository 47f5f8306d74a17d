-- Policies of row security. No roles: all of them.
-- Parameters: $1 their oids.
SELECT
    p.oid,
    p.polname::text AS name,
    n.nspname::text AS schema,
    c.relname::text AS table_name,
    p.polpermissive AS permissive,
    p.polcmd::text AS command,
    ARRAY(
        SELECT pg_catalog.pg_get_userbyid(r)::text
        FROM pg_catalog.unnest(p.polroles) r
        WHERE r <> 0
        ORDER BY 1
    ) AS roles,
    pg_catalog.pg_get_expr(p.polqual, p.polrelid) AS using_expression,
    pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) AS check_expression,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = p.oid
          AND ds.classoid = 'pg_catalog.pg_policy'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_policy p
JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.oid = ANY($1::oid[])
