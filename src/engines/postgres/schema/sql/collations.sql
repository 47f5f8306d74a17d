-- Collations. Their versions are not carried: they are the target's.
-- Parameters: $1 their oids.
-- Versions: 13 and 14 have one locale, 15 and 16 one for ICU, 17 renamed it; rules from 16 on.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.collname::text AS name,
    pg_catalog.pg_get_userbyid(c.collowner)::text AS owner,
    c.collprovider::text AS provider,
    c.collisdeterministic AS deterministic,
    c.collcollate::text AS lc_collate,
    c.collctype::text AS lc_ctype,
    -- since 17
    c.colllocale::text AS locale,
    -- since 15
    c.colliculocale::text AS locale,
    -- before 15
    CASE WHEN c.collprovider = 'i' THEN c.collcollate::text END AS locale,
    -- end
    -- since 16
    c.collicurules::text AS rules,
    -- before 16
    NULL::text AS rules,
    -- end
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_collation'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment
FROM pg_catalog.pg_collation c
JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
WHERE c.oid = ANY($1::oid[])
