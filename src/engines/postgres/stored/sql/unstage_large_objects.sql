-- Writes staged rows into their objects. An empty row is a length: the object ends there, in a hole. :staging is
-- the table of loid, off and data. 131072 is INV_WRITE.
SELECT pg_catalog.count(pg_catalog.lo_put(loid, off, data)) FROM :staging WHERE pg_catalog.octet_length(data) > 0;
SELECT pg_catalog.count(pg_catalog.lo_close(fd)) FROM (
    SELECT fd, pg_catalog.lo_truncate64(fd, off) FROM (
        SELECT pg_catalog.lo_open(loid, 131072) AS fd, off FROM :staging WHERE pg_catalog.octet_length(data) = 0 OFFSET 0
    ) t OFFSET 0
) u;
TRUNCATE TABLE :staging;
