-- Publications.
-- Parameters: $1 their oids.
-- Versions: generated columns from 18 on.
SELECT
    p.oid,
    p.pubname::text AS name,
    p.puballtables AS all_tables,
    p.pubinsert AS inserts,
    p.pubupdate AS updates,
    p.pubdelete AS deletes,
    p.pubtruncate AS truncates,
    p.pubviaroot AS via_root,
    -- since 18
    p.pubgencols::text AS generated_columns,
    -- before 18
    'n' AS generated_columns,
    -- end
    pg_catalog.pg_get_userbyid(p.pubowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = p.oid
          AND ds.classoid = 'pg_catalog.pg_publication'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_publication p
WHERE p.oid = ANY($1::oid[])
