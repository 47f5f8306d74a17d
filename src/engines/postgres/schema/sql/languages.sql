-- Procedural languages.
-- Parameters: $1 their oids.
SELECT
    l.oid,
    l.lanname::text AS name,
    l.lanpltrusted AS trusted,
    NULLIF(l.lanplcallfoid, 0)::pg_catalog.regproc::text AS handler,
    NULLIF(l.laninline, 0)::pg_catalog.regproc::text AS inline,
    NULLIF(l.lanvalidator, 0)::pg_catalog.regproc::text AS validator,
    pg_catalog.pg_get_userbyid(l.lanowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = l.oid
          AND ds.classoid = 'pg_catalog.pg_language'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_language l
WHERE l.oid = ANY($1::oid[])
