-- Objects of CREATE STATISTICS.
-- Parameters: $1 their oids.
-- Versions: the target is null from 17 on where it was -1.
SELECT
    s.oid,
    pg_catalog.pg_get_statisticsobjdef(s.oid) AS definition,
    n.nspname::text AS schema,
    s.stxname::text AS name,
    COALESCE(s.stxstattarget, -1)::int4 AS target,
    pg_catalog.pg_get_userbyid(s.stxowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = s.oid
          AND ds.classoid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_statistic_ext s
JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
WHERE s.oid = ANY($1::oid[])
