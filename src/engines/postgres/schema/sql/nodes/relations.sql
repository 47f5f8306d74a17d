-- Tables, views, materialized views, sequences and foreign tables. The tag is the letter of pg_class.relkind.
SELECT
    c.oid,
    c.relkind::text AS tag,
    c.relnamespace AS schema,
    c.relname::text AS name,
    0::oid AS parent,
    CASE WHEN c.relkind = 'p' THEN :partitioned ELSE 0 END
        + CASE WHEN c.relispartition THEN :partition ELSE 0 END
        + CASE
            WHEN c.relkind = 'r' OR (c.relkind = 'm' AND c.relispopulated) THEN :data
            ELSE 0
        END AS flags,
    c.relacl IS NOT NULL AS has_acl
FROM pg_catalog.pg_class c
WHERE c.oid >= 16384
  AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  AND c.relpersistence <> 't'
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND d.objid = c.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
