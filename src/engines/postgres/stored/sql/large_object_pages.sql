-- Pages of large objects, for COPY.
-- An empty page counts only as the last one: it says how long an object is that ends in a hole. :range is a
-- condition on ctid.
SELECT
    loid,
    pageno::pg_catalog.int8 * (pg_catalog.current_setting('block_size')::pg_catalog.int8 / 4) AS off,
    data
FROM ONLY pg_catalog.pg_largeobject l
WHERE (
    pg_catalog.octet_length(data) > 0
    OR NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_largeobject n
        WHERE n.loid = l.loid AND n.pageno > l.pageno
    )
)
  AND :range
