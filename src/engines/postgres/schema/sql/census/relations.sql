-- Relations, and indexes that are whole with the table that each is a part of.
SELECT
    1259::oid AS class,
    c.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    1259::oid AS whole_class,
    COALESCE(i.indrelid, 0::oid) AS whole_oid,
    n.nspname::text AS schema,
    c.relname::text AS name
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n
    ON n.oid = c.relnamespace
    AND n.nspname !~ '^pg_(temp|toast)'
    AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
WHERE c.oid >= 16384
  AND c.relpersistence <> 't'
  AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND d.objid = c.oid
        AND d.objsubid = 0
        AND d.deptype = 'e'
  )
  AND (i.indexrelid IS NULL OR c.relkind = 'I' OR (i.indisready AND i.indisvalid))
