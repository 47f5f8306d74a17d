-- Pins the settings of a session: one transaction, so it stands outside of any other.
-- :values are rows of name and value. Limits and the path come first, because the statements after them are under
-- their old values too (the list of all settings is more than the least work_mem, and a temp_file_limit of nothing
-- would end it). What only a superuser may set is set by a superuser, and what a server does not know is not
-- mentioned to it.
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE;
SET statement_timeout = 0;
SET exit_on_error = off;
SET LOCAL work_mem = '32MB';
SELECT pg_catalog.set_config('search_path', '', false);
SELECT pg_catalog.set_config('role', 'none', false) FROM pg_catalog.pg_roles r WHERE r.rolname = SESSION_USER AND r.rolsuper
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c
    WHERE s.setrole = r.oid AND pg_catalog.lower(c) ~ '^role=');
SELECT pg_catalog.count(pg_catalog.set_config(p.name, p.value, false)) FROM (VALUES
    :values
    ) p(name, value) JOIN pg_catalog.pg_settings s ON s.name = p.name WHERE s.context = 'user'
    OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER AND r.rolsuper);
COMMIT;
