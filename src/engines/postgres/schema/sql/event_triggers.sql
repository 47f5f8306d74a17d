-- Event triggers.
-- Parameters: $1 their oids.
SELECT
    e.oid,
    e.evtname::text AS name,
    e.evtevent::text AS event,
    e.evttags AS tags,
    fn.nspname::text AS function_schema,
    f.proname::text AS function_name,
    e.evtenabled::text AS state,
    pg_catalog.pg_get_userbyid(e.evtowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = e.oid
          AND ds.classoid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_event_trigger e
JOIN pg_catalog.pg_proc f ON f.oid = e.evtfoid
JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
WHERE e.oid = ANY($1::oid[])
