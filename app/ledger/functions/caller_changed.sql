-- Tells every process that what it remembers of some keys or users is out of date: see app/runtime/change_feed.py.
--
-- A notice names a slot, not a row: `key 17` means all keys whose id is 17 modulo 1024, `user a3f` all users whose id's MD5
-- begins so. However many rows a statement changes, there are at most 4096 different notices, of which PostgreSQL keeps one each.
--
-- Row triggers of `platform_api_key` and `account` are for changes to named columns alone: settling a call fires none.
-- Statement triggers, of `key_policy` and `user_policy`, have the rows in `changed`. A group may have any number of users.
-- `aigcspace.notify` set to `off` keeps them from telling: see docs/scaling.md.
CREATE OR REPLACE FUNCTION aigcspace.caller_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('aigcspace.notify', true) = 'off' THEN
        RETURN NULL;
    ELSIF TG_OP = 'TRUNCATE' OR TG_TABLE_NAME = 'spend_group' THEN
        PERFORM pg_catalog.pg_notify('aigcspace_changes', 'all');
    ELSIF TG_TABLE_NAME = 'platform_api_key' THEN
        PERFORM pg_catalog.pg_notify('aigcspace_changes', 'key ' || (OLD.id & 1023));
    ELSIF TG_TABLE_NAME = 'account' THEN
        PERFORM pg_catalog.pg_notify('aigcspace_changes', 'user ' || left(md5(OLD.user_id), 3));
    ELSIF TG_TABLE_NAME = 'user_policy' THEN
        PERFORM pg_catalog.pg_notify('aigcspace_changes', 'user ' || slot)
        FROM (SELECT DISTINCT left(md5(user_id), 3) AS slot FROM changed) slots;
    ELSE
        PERFORM pg_catalog.pg_notify('aigcspace_changes', 'key ' || slot) FROM (SELECT DISTINCT key_id & 1023 AS slot FROM changed) slots;
    END IF;
    RETURN NULL;
END
$$;
