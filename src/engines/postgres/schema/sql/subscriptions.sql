-- Subscriptions. options: each as it is written, where it has not its default.
-- Streaming is said in any case from 14 on: 18 has another default.
-- Parameters: $1 their oids.
-- Versions: options and origin came with 14 to 17.
SELECT
    s.oid,
    s.subname::text AS name,
    s.subconninfo AS connection,
    s.subpublications AS publications,
    s.subslotname::text AS slot,
    s.subsynccommit AS synchronous_commit,
    pg_catalog.pg_get_userbyid(s.subowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = s.oid
          AND ds.classoid = 'pg_catalog.pg_subscription'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    -- since 16
    NULLIF(s.suborigin, 'any') AS origin,
    -- before 16
    NULL::text AS origin,
    -- end
    pg_catalog.array_remove(
        ARRAY[
            -- since 14
            CASE WHEN s.subbinary THEN 'binary = true' END,
            -- end
            -- since 16
            CASE s.substream
                WHEN 't' THEN 'streaming = on'
                WHEN 'p' THEN 'streaming = parallel'
                WHEN 'f' THEN 'streaming = off'
            END,
            -- since 14
            CASE WHEN s.substream THEN 'streaming = on' ELSE 'streaming = off' END,
            -- end
            -- since 15
            CASE WHEN s.subtwophasestate <> 'd' THEN 'two_phase = on' END,
            CASE WHEN s.subdisableonerr THEN 'disable_on_error = true' END,
            -- end
            -- since 16
            CASE WHEN NOT s.subpasswordrequired THEN 'password_required = false' END,
            CASE WHEN s.subrunasowner THEN 'run_as_owner = true' END,
            -- end
            -- since 17
            CASE WHEN s.subfailover THEN 'failover = true' END,
            -- end
            NULL::text
        ],
        NULL
    ) AS options
FROM pg_catalog.pg_subscription s
WHERE s.oid = ANY($1::oid[])
