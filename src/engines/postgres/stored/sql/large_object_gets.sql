-- Large objects in pieces of :piece bytes, for COPY by a role that may not read their table.
-- Each descriptor is closed as soon as it has told the length. :range is a condition on o.oid. 262144 is
-- INV_READ.
-- :readable is readable_large_object.sql, which says that the role may read the content.
SELECT o.oid, g.off, pg_catalog.lo_get(o.oid, g.off, :piece)
FROM (
    SELECT o.oid
    FROM pg_catalog.pg_largeobject_metadata o
    WHERE :readable
      AND :range
    OFFSET 0
) o,
    LATERAL (
        SELECT
            pg_catalog.lo_lseek64(f.fd, 0, 2) AS size,
            pg_catalog.lo_close(f.fd) AS closed
        FROM (SELECT pg_catalog.lo_open(o.oid, 262144) AS fd OFFSET 0) f
        OFFSET 0
    ) s,
    LATERAL pg_catalog.generate_series(0::pg_catalog.int8, s.size - 1, :piece) g(off)
