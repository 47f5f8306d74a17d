-- Foreign keys of other tables that refer to what goes. The comment is a literal, or NULL.
-- Of a partitioned key the topmost one is made again; it brings those of the partitions. :gone is gone.sql.
:gone,
keys(oid) AS (
    SELECT k.oid
    FROM gone g
    JOIN pg_catalog.pg_constraint k
        ON k.contype = 'f'
        AND g.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND k.confrelid = g.objid
    WHERE NOT EXISTS (
        SELECT
        FROM gone h
        WHERE h.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND h.objid = k.conrelid
    )
),
up(oid, parent) AS (
    SELECT k.oid, k.conparentid
    FROM keys
    JOIN pg_catalog.pg_constraint k USING (oid)
    UNION
    SELECT k.oid, k.conparentid
    FROM up
    JOIN pg_catalog.pg_constraint k ON k.oid = up.parent
)
SELECT
    k.conrelid::pg_catalog.regclass AS table_name,
    pg_catalog.quote_ident(k.conname) AS name,
    pg_catalog.pg_get_constraintdef(k.oid) AS definition,
    pg_catalog.quote_nullable(pg_catalog.obj_description(k.oid, 'pg_constraint')) AS comment
FROM up
JOIN pg_catalog.pg_constraint k USING (oid)
WHERE up.parent = 0
ORDER BY table_name, name
