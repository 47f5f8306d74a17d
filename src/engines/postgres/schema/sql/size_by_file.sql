-- Size in bytes of the heap of a table c, by its file.
-- A file ends at 1 GiB; what is larger has more of them. A file that is missing is no empty table: COPY will say so.
-- A size of 0 is an empty table: nobody can truncate or swap the file while we hold its lock, and a row of our
-- snapshot would lie in it.
(
    SELECT CASE
        WHEN f.size IS NULL THEN 1
        WHEN f.size < 1 << 30 THEN f.size
        ELSE pg_catalog.pg_relation_size(c.oid)
    END
    FROM pg_catalog.pg_stat_file(pg_catalog.pg_relation_filepath(c.oid), true) f
)
