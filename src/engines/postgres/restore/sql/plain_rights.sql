-- Statements that take from new relations what default privileges gave, and give their owner what is its own.
-- The server makes them, so that names are quoted by its own rules. :relations are expressions of their oids.
SELECT DISTINCT pg_catalog.format(
    'REVOKE ALL ON %s FROM %s',
    c.oid::pg_catalog.regclass,
    CASE x.grantee
        WHEN 0 THEN 'PUBLIC'
        ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee))
    END
) AS statement
FROM pg_catalog.pg_class c,
    pg_catalog.aclexplode(c.relacl) x
WHERE c.oid = ANY (ARRAY[:relations]::pg_catalog.oid[]) AND x.grantee <> c.relowner
UNION ALL
SELECT pg_catalog.format(
    'GRANT ALL ON %s TO %I',
    c.oid::pg_catalog.regclass,
    pg_catalog.pg_get_userbyid(c.relowner)
)
FROM pg_catalog.pg_class c
WHERE c.relacl IS NOT NULL AND c.oid = ANY (ARRAY[:relations]::pg_catalog.oid[])
