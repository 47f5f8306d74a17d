-- Size in bytes of the heap of a table c, for a role that may not look at files.
-- $2 as in table_sizes.sql: whether the tables are few, so that each may be opened.
CASE
    WHEN $2 THEN pg_catalog.pg_relation_size(c.oid)
    ELSE GREATEST(c.relpages, 0)::int8 * pg_catalog.current_setting('block_size')::int8
END
