-- Columns of tables, in their order.
-- printed: the column stands in the list of CREATE TABLE. drops_default: a parent has a default and the column
-- has none. not_null is true where it has to be said: on a server before 18 where no parent has it; from 18 on
-- where the constraint is the table's own, or valid while those of all parents are not. not_null_named: the
-- constraint's name has to be said, because it is not the usual one, has a comment, or is that of another
-- constraint in the schema: whichever is made later would be called otherwise.
-- Parameters: $1 oids of the tables; $2 those among them that are made stand-alone and then join their parents.
-- Versions: Compression from 14 on; NOT NULL is a named constraint from 18 on.
SELECT
    a.attrelid AS relation,
    a.attnum AS number,
    a.attname::text AS name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
    cn.nspname::text AS collation_schema,
    co.collname::text AS collation_name,
    a.attstattarget::int4 AS statistics_target,
    CASE
        WHEN a.attstorage <> t.typstorage THEN CASE a.attstorage
            WHEN 'p' THEN 'PLAIN'
            WHEN 'e' THEN 'EXTERNAL'
            WHEN 'x' THEN 'EXTENDED'
            ELSE 'MAIN'
        END
    END AS storage,
    -- since 14
    CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END AS compression,
    -- before 14
    NULL::text AS compression,
    -- end
    a.attoptions AS options,
    a.attfdwoptions AS foreign_options,
    a.attislocal OR c.relispartition OR a.attrelid = ANY($2::oid[]) AS printed,
    a.attgenerated::text AS generated,
    d.oid AS default_oid,
    pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS expression,
    CASE
        WHEN a.attgenerated <> ''
            AND a.attinhcount > 0 THEN (
                SELECT pg_catalog.pg_get_expr(pd.adbin, pd.adrelid)
                FROM pg_catalog.pg_inherits i
                JOIN pg_catalog.pg_attribute p
                    ON p.attrelid = i.inhparent AND p.attname = a.attname AND NOT p.attisdropped
                JOIN pg_catalog.pg_attrdef pd ON pd.adrelid = p.attrelid AND pd.adnum = p.attnum
                WHERE i.inhrelid = a.attrelid
                ORDER BY i.inhseqno
                LIMIT 1
            )
    END AS inherited_expression,
    a.attinhcount > 0
        AND NOT a.atthasdef
        AND EXISTS (
            SELECT 1
            FROM pg_catalog.pg_inherits i
            JOIN pg_catalog.pg_attribute p
                ON p.attrelid = i.inhparent AND p.attname = a.attname AND NOT p.attisdropped
            WHERE i.inhrelid = a.attrelid
              AND p.atthasdef
              AND p.attgenerated = ''
        ) AS drops_default,
    -- since 18
    (
        k.oid IS NOT NULL
        AND k.convalidated
        AND (
            k.conislocal
            OR c.relispartition
            OR NOT EXISTS (
                SELECT 1
                FROM pg_catalog.pg_inherits i
                JOIN pg_catalog.pg_attribute p
                    ON p.attrelid = i.inhparent AND p.attname = a.attname AND NOT p.attisdropped
                JOIN pg_catalog.pg_constraint pk
                    ON pk.conrelid = i.inhparent AND pk.contype = 'n' AND pk.conkey = ARRAY[p.attnum]
                WHERE i.inhrelid = a.attrelid AND pk.convalidated
            )
        )
    ) AS not_null,
    k.conname::text AS not_null_name,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = k.oid
          AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS not_null_comment,
    k.conname <> c.relname || '_' || a.attname || '_not_null'
        OR (
            SELECT ds.description
            FROM pg_catalog.pg_description ds
            WHERE ds.objoid = k.oid
              AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
              AND ds.objsubid = 0
        ) IS NOT NULL
        OR EXISTS (
            SELECT 1
            FROM pg_catalog.pg_constraint o
            WHERE o.conname = k.conname
              AND o.connamespace = k.connamespace
              AND o.oid <> k.oid
        ) AS not_null_named,
    k.connoinherit AS not_null_no_inherit,
    -- before 18
    (
        a.attnotnull
        AND (
            c.relispartition
            OR a.attrelid = ANY($2::oid[])
            OR NOT EXISTS (
                SELECT 1
                FROM pg_catalog.pg_inherits i
                JOIN pg_catalog.pg_attribute p
                    ON p.attrelid = i.inhparent AND p.attname = a.attname AND NOT p.attisdropped
                WHERE i.inhrelid = a.attrelid AND p.attnotnull
            )
        )
    ) AS not_null,
    NULL::text AS not_null_name,
    NULL::text AS not_null_comment,
    false AS not_null_named,
    false AS not_null_no_inherit,
    -- end
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = a.attrelid
          AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND ds.objsubid = a.attnum
    ) AS comment
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation AND a.attcollation <> t.typcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
-- since 18
LEFT JOIN pg_catalog.pg_constraint k
    ON k.conrelid = a.attrelid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum]
-- end
WHERE a.attrelid = ANY($1::oid[])
  AND a.attnum > 0
  AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
