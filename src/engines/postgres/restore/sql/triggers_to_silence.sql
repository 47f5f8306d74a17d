-- Triggers of users that would run, with the word of their state. :states are letters of it; :oids the array of
-- the tables.
SELECT
    t.tgrelid::pg_catalog.regclass AS table_name,
    pg_catalog.quote_ident(t.tgname) AS name,
    CASE t.tgenabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' ELSE '' END AS state
FROM pg_catalog.pg_trigger t
WHERE NOT t.tgisinternal
  AND t.tgenabled IN (:states)
  AND t.tgrelid = ANY (:oids)
ORDER BY table_name, name
