-- Settings of roles in every database.
SELECT r.rolname::text AS role, s.setconfig AS settings
FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase = 0
ORDER BY role
