-- Number of conversions that the server uses by itself from the encoding :source to :target.
SELECT pg_catalog.count(*) AS number
FROM pg_catalog.pg_conversion c
WHERE c.condefault
  AND c.conforencoding = pg_catalog.pg_char_to_encoding(:source)
  AND c.contoencoding = pg_catalog.pg_char_to_encoding(:target)
