-- A text that changes with tables. :oids are theirs.
SELECT pg_catalog.md5(pg_catalog.string_agg(r.line, ';' ORDER BY r.line)) AS digest
FROM (
    SELECT pg_catalog.concat_ws(' ', c.oid, 0, c.xmin, c.relfilenode, c.relname, c.relnamespace) AS line
    FROM pg_catalog.pg_class c
    WHERE c.oid IN (:oids)
    UNION ALL
    SELECT pg_catalog.concat_ws(' ', a.attrelid, a.attnum, a.xmin)
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid IN (:oids)
) r
