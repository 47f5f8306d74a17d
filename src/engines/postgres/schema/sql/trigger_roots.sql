-- Triggers that stand above these, at every level.
-- Parameters: $1 oids of triggers of partitions.
WITH RECURSIVE up(oid, parent) AS (
    SELECT t.oid, t.tgparentid
    FROM pg_catalog.pg_trigger t
    WHERE t.oid = ANY($1::oid[])
    UNION
    SELECT up.oid, t.tgparentid
    FROM up
    JOIN pg_catalog.pg_trigger t ON t.oid = up.parent
    WHERE t.tgparentid <> 0
)
SELECT oid, parent
FROM up
