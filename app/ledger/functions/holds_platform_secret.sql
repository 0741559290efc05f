-- Whether a row of `platform_api_key` holds, in the platform's own column, the secret that a caller has presented.
--
-- presented: the SHA-256 in hexadecimal, the column's format and its name, as in `9f86d0... plain api_key`: see
-- app/runtime/platform_keys.py. Anything else, such as the SHA-256 alone, is held by none.
CREATE OR REPLACE FUNCTION aigcspace.holds_platform_secret(key jsonb, presented text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(split_part(presented, ' ', 1) = CASE split_part(presented, ' ', 2)
        WHEN 'plain' THEN encode(sha256(replace(key ->> substr(presented, 72), '\', '\\')::bytea), 'hex')
        WHEN 'sha256' THEN lower(key ->> substr(presented, 73))
    END, false)
$$;
