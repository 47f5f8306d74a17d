-- Domains. not_null_said is the name of the NOT NULL where it is not the usual one, or has a comment.
-- Parameters: $1 their oids.
-- Versions: The NOT NULL of a domain is a constraint from 17 on.
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
    pg_catalog.format_type(t.typbasetype, t.typtypmod) AS base_type,
    cn.nspname::text AS collation_schema,
    co.collname::text AS collation_name,
    pg_catalog.pg_get_expr(t.typdefaultbin, 'pg_catalog.pg_type'::regclass) AS default_expression,
    t.typdefault AS default_text,
    -- since 17
    CASE
        WHEN nn.conname <> t.typname || '_not_null'
            OR (
                SELECT ds.description
                FROM pg_catalog.pg_description ds
                WHERE ds.objoid = nn.oid
                  AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
                  AND ds.objsubid = 0
            ) IS NOT NULL THEN nn.conname::text
    END AS not_null_said,
    nn.conname::text AS not_null_name,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = nn.oid
          AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS not_null_comment,
    -- before 17
    NULL::text AS not_null_said,
    NULL::text AS not_null_name,
    NULL::text AS not_null_comment,
    -- end
    t.typnotnull AS not_null
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_catalog.pg_type u ON u.oid = t.typbasetype
LEFT JOIN pg_catalog.pg_collation co ON co.oid = t.typcollation AND t.typcollation <> u.typcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
-- since 17
LEFT JOIN pg_catalog.pg_constraint nn ON nn.contypid = t.oid AND nn.contype = 'n'
-- end
WHERE t.oid = ANY($1::oid[])
