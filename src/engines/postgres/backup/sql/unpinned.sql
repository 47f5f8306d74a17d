-- Settings that would hide damage and are on.
SELECT name
FROM pg_catalog.pg_settings
WHERE name IN ('zero_damaged_pages', 'ignore_checksum_failure') AND setting = 'on'
