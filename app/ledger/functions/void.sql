-- Takes back holds of calls that were never let through: the answer to their reservation was lost. They leave no row.
--
-- patience: milliseconds to wait for each lock. Returns how many there were.
CREATE OR REPLACE FUNCTION aigcspace.void(request_ids uuid[], patience int) RETURNS int
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    user_ids text[];
    key_ids int[];
    voided int;
BEGIN
    PERFORM set_config('lock_timeout', patience::text, true);
    SELECT array_agg(DISTINCT user_id), array_agg(DISTINCT api_key_id) INTO user_ids, key_ids
    FROM aigcspace.call_hold WHERE request_id = ANY (request_ids);
    PERFORM 1 FROM aigcspace.users u WHERE u.id = ANY (user_ids) ORDER BY u.id FOR KEY SHARE;
    PERFORM 1 FROM aigcspace.account a WHERE a.user_id = ANY (user_ids) ORDER BY a.user_id FOR NO KEY UPDATE;
    PERFORM 1 FROM aigcspace.key_meter m WHERE m.key_id = ANY (key_ids) ORDER BY m.key_id FOR NO KEY UPDATE;

    WITH unheld AS (
        DELETE FROM aigcspace.call_hold WHERE request_id = ANY (request_ids) RETURNING *
    ), accounts AS (
        UPDATE aigcspace.account SET
            held = account.held - total.amount,
            in_flight = account.in_flight - total.calls,
            token_level = greatest(0, account.token_level - total.tokens)
        FROM (
            SELECT user_id, sum(amount) AS amount, count(*)::int AS calls, sum(tokens) AS tokens FROM unheld GROUP BY user_id
        ) total
        WHERE account.user_id = total.user_id
    ), meters AS (
        UPDATE aigcspace.key_meter SET
            held = key_meter.held - total.amount,
            in_flight = key_meter.in_flight - total.calls,
            token_level = greatest(0, key_meter.token_level - total.tokens)
        FROM (
            SELECT api_key_id, sum(amount) AS amount, count(*)::int AS calls, sum(tokens) AS tokens FROM unheld GROUP BY api_key_id
        ) total
        WHERE key_meter.key_id = total.api_key_id
    )
    SELECT count(*) INTO voided FROM unheld;
    RETURN voided;
END
$$;
