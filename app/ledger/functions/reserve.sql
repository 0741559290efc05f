-- Holds the ceilings of many calls at once, or says why not.
--
-- Runs under READ COMMITTED: the first statements take the locks, and the last one computes on a snapshot taken after
-- them. Done in one statement, a waiter would compute on what it saw before it waited.
-- A process reserves under its lease, whose row stays locked until the holds are there: nobody can find it dead meanwhile.
-- Within a batch, calls are granted in ascending ceiling, so that one big call never refuses small ones. A key's limits
-- are judged first, then its user's, whose own stand before those of the user's group, and the account's money last.
--
-- patience: milliseconds to wait for each lock. zone: in which days and months begin.
-- Returns a row for each call: outcome 'granted', or the reason of the refusal; what was available before the batch;
-- the seconds after which a refused rate would let the call through; and of the tighter of the key's and the user's limits of
-- requests, and of tokens, a minute: the limit and what is left of it after this call, where there are any.
--
-- Plans are by key and generic, as in settle.sql. MATERIALIZED: else the planner copies what a step computes into each place of the next.
CREATE OR REPLACE FUNCTION aigcspace.reserve(
    request_ids uuid[], user_ids text[], key_ids int[], key_hashes text[], amounts numeric[], token_estimates bigint[], open_endeds boolean[],
    entries text[], instance uuid, patience int, zone text
) RETURNS TABLE (
    request_id uuid, outcome text, available numeric, retry_after double precision,
    request_limit int, requests_left double precision, token_limit int, tokens_left double precision
)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    now_at timestamptz;
    today date;
    has_lease boolean;
BEGIN
    PERFORM set_config('lock_timeout', patience::text, true);
    PERFORM 1 FROM aigcspace.instance i WHERE i.id = instance AND i.lease_until > clock_timestamp() FOR KEY SHARE;
    has_lease := FOUND;
    PERFORM 1 FROM aigcspace.users u WHERE u.id = ANY (user_ids) ORDER BY u.id FOR KEY SHARE;
    PERFORM 1 FROM aigcspace.account a WHERE a.user_id = ANY (user_ids) ORDER BY a.user_id FOR NO KEY UPDATE;
    PERFORM 1 FROM aigcspace.key_meter m WHERE m.key_id = ANY (key_ids) ORDER BY m.key_id FOR NO KEY UPDATE;
    now_at := clock_timestamp();
    today := (now_at AT TIME ZONE zone)::date;

    RETURN QUERY
    WITH asked AS (
        SELECT * FROM unnest(request_ids, user_ids, key_ids, key_hashes, amounts, token_estimates, open_endeds, entries)
            AS asked (request_id, user_id, key_id, key_hash, amount, tokens, open_ended, entry)
    ), known AS MATERIALIZED (
        SELECT asked.*,
            account.credit + account.credit_limit - account.spent - account.held AS available,
            policy.rpm, policy.tpm, policy.max_concurrency, meter.in_flight,
            least(
                policy.spend_limit - meter.spent,
                policy.daily_limit - aigcspace.spent_on_day(meter.day_spent, meter.spent_on, today),
                policy.monthly_limit - aigcspace.spent_in_month(meter.month_spent, meter.spent_on, today)
            ) - meter.held AS spendable,
            aigcspace.drained(meter.request_level, policy.rpm, now_at - meter.drained_at) AS request_level,
            aigcspace.drained(meter.token_level, policy.tpm, now_at - meter.drained_at) AS token_level,
            of_user.rpm AS user_rpm, of_user.tpm AS user_tpm, of_user.max_concurrency AS user_max_concurrency, account.in_flight AS user_in_flight,
            least(
                of_user.daily_limit - aigcspace.spent_on_day(account.day_spent, account.spent_on, today),
                of_user.monthly_limit - aigcspace.spent_in_month(account.month_spent, account.spent_on, today)
            ) - account.held AS user_spendable,
            aigcspace.drained(account.request_level, of_user.rpm, now_at - account.drained_at) AS user_request_level,
            aigcspace.drained(account.token_level, of_user.tpm, now_at - account.drained_at) AS user_token_level,
            CASE
                WHEN NOT has_lease THEN 'no_lease'
                WHEN account.user_id IS NULL THEN 'user_gone'
                WHEN key.id IS NULL OR meter.key_id IS NULL OR key.user_id IS DISTINCT FROM asked.user_id
                    OR key.key_hash IS DISTINCT FROM asked.key_hash AND NOT EXISTS (
                        SELECT FROM aigcspace.retired_secret old
                        WHERE old.key_hash = asked.key_hash AND old.key_id = asked.key_id AND old.valid_until > now_at
                    ) AND NOT (key.key_hash IS NULL AND aigcspace.holds_platform_secret(to_jsonb(key), asked.key_hash)) THEN 'key_gone'
                WHEN account.disabled_at IS NOT NULL THEN 'user_disabled'
                WHEN policy.disabled_at IS NOT NULL THEN 'key_disabled'
                WHEN policy.expires_at <= now_at THEN 'key_expired'
            END AS inactive
        FROM asked
        LEFT JOIN aigcspace.account account ON account.user_id = asked.user_id
        LEFT JOIN aigcspace.platform_api_key key ON key.id = asked.key_id
        LEFT JOIN aigcspace.key_policy policy ON policy.key_id = asked.key_id
        LEFT JOIN aigcspace.key_meter meter ON meter.key_id = asked.key_id
        LEFT JOIN aigcspace.user_policy own ON own.user_id = asked.user_id
        LEFT JOIN aigcspace.spend_group shared ON shared.id = own.group_id
        CROSS JOIN LATERAL (
            SELECT coalesce(own.rpm, shared.rpm) AS rpm, coalesce(own.tpm, shared.tpm) AS tpm,
                coalesce(own.max_concurrency, shared.max_concurrency) AS max_concurrency,
                coalesce(own.daily_limit, shared.daily_limit) AS daily_limit, coalesce(own.monthly_limit, shared.monthly_limit) AS monthly_limit
        ) of_user
    ), alone AS MATERIALIZED (
        -- what could not be granted by itself takes no place in the queue of those that could
        SELECT known.*,
            CASE
                WHEN inactive IS NOT NULL THEN inactive
                WHEN amount > spendable THEN 'spend_limit'
                WHEN in_flight + 1 > max_concurrency THEN 'max_concurrency'
                WHEN request_level + 1 > rpm THEN 'rpm'
                WHEN token_level + least(tokens, tpm) > tpm THEN 'tpm'
                WHEN amount > user_spendable THEN 'user_spend_limit'
                WHEN user_in_flight + 1 > user_max_concurrency THEN 'user_max_concurrency'
                WHEN user_request_level + 1 > user_rpm THEN 'user_rpm'
                WHEN user_token_level + least(tokens, user_tpm) > user_tpm THEN 'user_tpm'
            END AS refused_alone
        FROM known
    ), judged_by_key AS (
        SELECT alone.*, row_number() OVER queue AS queued_calls, sum(least(tokens, tpm)) OVER queue AS queued_tokens,
            CASE
                WHEN refused_alone IS NOT NULL THEN refused_alone
                WHEN sum(amount) OVER queue > spendable THEN 'spend_limit'
                WHEN in_flight + row_number() OVER queue > max_concurrency THEN 'max_concurrency'
                WHEN request_level + row_number() OVER queue > rpm THEN 'rpm'
                WHEN token_level + sum(least(tokens, tpm)) OVER queue > tpm THEN 'tpm'
            END AS refused_by_key
        FROM alone
        WINDOW queue AS (PARTITION BY key_id, refused_alone ORDER BY amount, request_id)
    ), judged AS (
        SELECT judged_by_key.*, row_number() OVER queue AS user_queued_calls, sum(least(tokens, user_tpm)) OVER queue AS user_queued_tokens,
            CASE
                WHEN refused_by_key IS NOT NULL THEN refused_by_key
                WHEN sum(amount) OVER queue > user_spendable THEN 'user_spend_limit'
                WHEN user_in_flight + row_number() OVER queue > user_max_concurrency THEN 'user_max_concurrency'
                WHEN user_request_level + row_number() OVER queue > user_rpm THEN 'user_rpm'
                WHEN user_token_level + sum(least(tokens, user_tpm)) OVER queue > user_tpm THEN 'user_tpm'
                WHEN sum(amount) OVER queue > available THEN 'credit'
                ELSE 'granted'
            END AS outcome
        FROM judged_by_key
        WINDOW queue AS (PARTITION BY user_id, refused_by_key IS NULL ORDER BY amount, request_id)
    ), holding AS (
        INSERT INTO aigcspace.call_hold (request_id, user_id, api_key_id, instance_id, amount, tokens, open_ended, entry, created_at)
        SELECT request_id, user_id, key_id, instance, amount, tokens, open_ended, entry::jsonb, now_at FROM judged WHERE outcome = 'granted'
    ), accounts AS (
        UPDATE aigcspace.account SET
            held = account.held + granted.amount,
            in_flight = account.in_flight + granted.calls,
            request_level = coalesce(granted.request_level, 0) + granted.calls,
            token_level = coalesce(granted.token_level, 0) + granted.tokens,
            drained_at = now_at
        FROM (
            SELECT user_id, sum(amount) AS amount, count(*)::int AS calls, sum(tokens) AS tokens,
                max(user_request_level) AS request_level, max(user_token_level) AS token_level
            FROM judged WHERE outcome = 'granted' GROUP BY user_id
        ) granted
        WHERE account.user_id = granted.user_id
    ), meters AS (
        UPDATE aigcspace.key_meter SET
            held = key_meter.held + granted.amount,
            in_flight = key_meter.in_flight + granted.calls,
            request_level = coalesce(granted.request_level, 0) + granted.calls,
            token_level = coalesce(granted.token_level, 0) + granted.tokens,
            drained_at = now_at
        FROM (
            SELECT key_id, sum(amount) AS amount, count(*)::int AS calls, sum(tokens) AS tokens,
                max(request_level) AS request_level, max(token_level) AS token_level
            FROM judged WHERE outcome = 'granted' GROUP BY key_id
        ) granted
        WHERE key_meter.key_id = granted.key_id
    ), left_over AS (
        SELECT judged.*, rpm - request_level - queued_calls AS key_requests_left, tpm - token_level - queued_tokens AS key_tokens_left,
            user_rpm - user_request_level - user_queued_calls AS user_requests_left, user_tpm - user_token_level - user_queued_tokens AS user_tokens_left
        FROM judged
    )
    SELECT left_over.request_id, left_over.outcome, left_over.available,
        CASE left_over.outcome
            WHEN 'rpm' THEN -key_requests_left * 60.0 / rpm
            WHEN 'tpm' THEN -key_tokens_left * 60.0 / tpm
            WHEN 'user_rpm' THEN -user_requests_left * 60.0 / user_rpm
            WHEN 'user_tpm' THEN -user_tokens_left * 60.0 / user_tpm
            WHEN 'max_concurrency' THEN 1
            WHEN 'user_max_concurrency' THEN 1
        END::double precision,
        CASE WHEN user_requests_left < key_requests_left OR rpm IS NULL THEN user_rpm ELSE rpm END,
        greatest(0, least(key_requests_left, user_requests_left))::double precision,
        CASE WHEN user_tokens_left < key_tokens_left OR tpm IS NULL THEN user_tpm ELSE tpm END,
        greatest(0, least(key_tokens_left, user_tokens_left))::double precision
    FROM left_over;
END
$$;
