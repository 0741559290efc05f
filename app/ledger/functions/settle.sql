-- Ends many calls at once: what each costs, and what its row and its account get. The caller inserts the rows that this
-- function returns, in the same statement and so in the same transaction: see app/ledger/settlement.py.
--
-- batch: an array of entries, the columns of `api_call_log` by name, and `cost` (decimal string, at most 10 decimals).
-- patience: milliseconds to wait for each lock. zone: in which days and months begin.
--
-- An entry whose row is already there is dropped: a replay changes nothing. So is one whose user has been purged. A row
-- that was written as `orphaned`, at no cost, is amended, once: its call's truth has come late. Such an entry has no hold
-- any more, so that all of its cost is excess.
--
-- An entry with `deferred` is no end yet: see defer.sql. One with `was_deferred` ends such a call. `objects`: ids of what the
-- upstream keeps of the call; they are its user's, and `are_lasting` where they lie in a conversation.
--
-- One with `late` is told again after so long that its row may have been archived: without a hold and without a row it has ended.
--
-- Money. What was held is always paid: base = least(cost, hold). The excess of a cost over its hold is paid, in order,
-- from what no other call holds; the rest is written off. A row's bill is the difference of two rounded running totals,
-- so that a user's bills add up to the user's charges, to 0.00005, however small each is.
--
-- Plans are made once for a connection, and often while the tables are small: without the settings they scan the whole log for
-- orphans by the time that it has grown (ten calls at once took 12 ms of CPU after 18,000 rows, 2 ms with them). Generic: a plan
-- for just these calls seems cheaper to the planner, which then plans anew for each batch, and that takes longer than the work.
CREATE OR REPLACE FUNCTION aigcspace.settle(batch jsonb, patience int, zone text)
RETURNS TABLE (
    entry jsonb, api_key_id int, charge numeric, write_off numeric, bill numeric, settled_at timestamptz, amended_at timestamptz
)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    user_ids text[];
    key_ids int[];
    now_at timestamptz;
    today date;
BEGIN
    PERFORM set_config('lock_timeout', patience::text, true);
    SELECT array_agg(DISTINCT item ->> 'user_id'), array_agg(DISTINCT (item ->> 'api_key_id')::int) INTO user_ids, key_ids
    FROM jsonb_array_elements(batch) item;
    IF EXISTS (SELECT FROM jsonb_array_elements(batch) item WHERE ((item ->> 'cost')::numeric BETWEEN 0 AND 1000000000) IS NOT TRUE) THEN
        RAISE numeric_value_out_of_range USING MESSAGE = 'a cost is missing, negative, or beyond reason';
    END IF;
    PERFORM 1 FROM aigcspace.users u WHERE u.id = ANY (user_ids) ORDER BY u.id FOR KEY SHARE;
    PERFORM 1 FROM aigcspace.account a WHERE a.user_id = ANY (user_ids) ORDER BY a.user_id FOR NO KEY UPDATE;
    PERFORM 1 FROM aigcspace.platform_api_key k WHERE k.id = ANY (key_ids) ORDER BY k.id FOR KEY SHARE;
    PERFORM 1 FROM aigcspace.key_meter m WHERE m.key_id = ANY (key_ids) ORDER BY m.key_id FOR NO KEY UPDATE;
    now_at := clock_timestamp();
    today := (now_at AT TIME ZONE zone)::date;
    IF batch @? '$[*].objects' THEN
        INSERT INTO aigcspace.upstream_object AS known (user_id, object_id, upstream_id, request_id, is_lasting, created_at)
        SELECT DISTINCT ON (object_id, account.user_id)
            account.user_id, object_id, (item ->> 'upstream_id')::int, (item ->> 'request_id')::uuid AS request_id,
            item ? 'are_lasting', now_at
        FROM jsonb_array_elements(batch) item
        JOIN aigcspace.account account ON account.user_id = item ->> 'user_id'
        CROSS JOIN jsonb_array_elements_text(coalesce(item -> 'objects', '[]')) object_id
        ORDER BY object_id, account.user_id, request_id DESC
        ON CONFLICT (object_id, user_id) DO UPDATE SET upstream_id = excluded.upstream_id, request_id = excluded.request_id,
            is_lasting = known.is_lasting OR excluded.is_lasting, created_at = excluded.created_at
        WHERE known.request_id < excluded.request_id;
    END IF;
    IF batch @? '$[*].deferred' THEN
        PERFORM aigcspace.defer(batch);
    END IF;
    IF batch @? '$[*].was_deferred' THEN
        DELETE FROM aigcspace.background_call
        USING jsonb_array_elements(batch) item
        WHERE item ? 'was_deferred' AND background_call.request_id = (item ->> 'request_id')::uuid;
    END IF;

    RETURN QUERY
    WITH item AS (
        SELECT DISTINCT ON (request_id) item AS entry, (item ->> 'request_id')::uuid AS request_id, item ->> 'user_id' AS user_id,
            (item ->> 'api_key_id')::int AS named_key_id, round((item ->> 'cost')::numeric, 10) AS cost
        FROM jsonb_array_elements(batch) item
        WHERE NOT item ? 'deferred'
        ORDER BY request_id
    ), open AS (
        SELECT item.*, coalesce(hold.api_key_id, named_key_id) AS key_id, coalesce(hold.amount, 0) AS hold, hold.request_id IS NOT NULL AS in_flight,
            CASE WHEN hold.request_id IS NOT NULL
                THEN (item.entry ->> 'input_tokens')::bigint + (item.entry ->> 'output_tokens')::bigint - hold.tokens ELSE 0 END AS token_debt,
            least(cost, coalesce(hold.amount, 0)) AS base, greatest(cost - coalesce(hold.amount, 0), 0) AS excess,
            orphan.settled_at AS orphaned_at, account.spent, account.billed,
            account.credit + account.credit_limit - account.spent - account.held AS available
        FROM item
        JOIN aigcspace.account account ON account.user_id = item.user_id
        LEFT JOIN aigcspace.call_hold hold ON hold.request_id = item.request_id
        LEFT JOIN aigcspace.api_call_log orphan ON orphan.request_id = item.request_id
        WHERE orphan.request_id IS NULL AND (hold.request_id IS NOT NULL OR NOT item.entry ? 'late')
            OR orphan.end_reason = 'orphaned' AND orphan.amended_at IS NULL AND item.entry ->> 'end_reason' IS DISTINCT FROM 'orphaned'
    ), unheld AS (
        DELETE FROM aigcspace.call_hold USING open WHERE call_hold.request_id = open.request_id
    ), charged AS (
        SELECT queued.*, base + least(cumulative, free) - least(cumulative - excess, free) AS charge
        FROM (
            SELECT open.*, greatest(available + sum(hold) OVER everything - sum(base) OVER everything, 0) AS free,
                sum(excess) OVER (everything ORDER BY request_id) AS cumulative
            FROM open
            WINDOW everything AS (PARTITION BY user_id)
        ) queued
    ), billed AS (
        SELECT charged.*, cost - charge AS write_off,
            round(spent + sum(charge) OVER queue, 4)
                - coalesce(round(spent + sum(charge) OVER (queue ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 4), billed) AS bill
        FROM charged
        WINDOW queue AS (PARTITION BY user_id ORDER BY request_id)
    ), accounts AS (
        UPDATE aigcspace.account SET
            held = account.held - total.hold,
            spent = account.spent + total.charge,
            billed = account.billed + total.bill,
            written_off = account.written_off + total.write_off,
            in_flight = account.in_flight - total.calls,
            token_level = greatest(0, account.token_level + total.tokens),
            day_spent = aigcspace.spent_on_day(account.day_spent, account.spent_on, today) + total.charge,
            month_spent = aigcspace.spent_in_month(account.month_spent, account.spent_on, today) + total.charge,
            spent_on = today
        FROM (
            SELECT user_id, sum(hold) AS hold, sum(charge) AS charge, sum(bill) AS bill, sum(write_off) AS write_off,
                (count(*) FILTER (WHERE in_flight))::int AS calls, sum(token_debt) AS tokens
            FROM billed GROUP BY user_id
        ) total
        WHERE account.user_id = total.user_id
            AND (total.hold, total.charge, total.bill, total.write_off, total.calls) <> (0, 0, 0, 0, 0)
    ), meters AS (
        UPDATE aigcspace.key_meter SET
            held = key_meter.held - total.hold,
            spent = key_meter.spent + total.charge,
            in_flight = key_meter.in_flight - total.calls,
            token_level = greatest(0, key_meter.token_level + total.tokens),
            day_spent = aigcspace.spent_on_day(key_meter.day_spent, key_meter.spent_on, today) + total.charge,
            month_spent = aigcspace.spent_in_month(key_meter.month_spent, key_meter.spent_on, today) + total.charge,
            spent_on = today
        FROM (
            SELECT key_id, sum(hold) AS hold, sum(charge) AS charge, (count(*) FILTER (WHERE in_flight))::int AS calls,
                sum(token_debt) AS tokens
            FROM billed GROUP BY key_id
        ) total
        WHERE key_meter.key_id = total.key_id
    ), counted AS (
        SELECT date_trunc('hour', coalesce(orphaned_at, now_at), 'UTC') AS hour, user_id, coalesce(key_id, 0) AS key_id, row.model_name,
            coalesce(row.upstream_id, 0) AS upstream_id, coalesce(row.api, '') AS api, row.status, row.is_local, 1 AS calls,
            row.input_tokens, row.output_tokens, coalesce(row.cache_read_tokens, 0) AS cache_read_tokens,
            coalesce(row.cache_write_tokens, 0) AS cache_write_tokens, coalesce(row.reasoning_tokens, 0) AS reasoning_tokens,
            charge, bill, write_off, coalesce(row.upstream_cost, 0) AS upstream_cost,
            aigcspace.latency_bucket(row.latency_ms) AS latencies,
            aigcspace.latency_bucket(row.first_token_ms) AS first_tokens
        FROM billed, jsonb_to_record(entry) AS row (
            model_name text, upstream_id int, api text, status text, is_local boolean, input_tokens int, output_tokens int,
            cache_read_tokens int, cache_write_tokens int, reasoning_tokens int, upstream_cost numeric,
            latency_ms int, first_token_ms int
        )
        UNION ALL
        -- an orphan that is amended was counted where it stood, with nothing but itself
        SELECT date_trunc('hour', orphaned_at, 'UTC'), billed.user_id, coalesce(key_id, 0), orphan.model_name,
            coalesce(orphan.upstream_id, 0), coalesce(orphan.api, ''), orphan.status, orphan.is_local, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        FROM billed JOIN aigcspace.api_call_log orphan USING (request_id)
        WHERE orphaned_at IS NOT NULL
    ), hours AS (
        INSERT INTO aigcspace.usage_hourly AS hourly (
            hour, user_id, api_key_id, model_name, upstream_id, api, status, is_local, calls, input_tokens, output_tokens,
            cache_read_tokens, cache_write_tokens, reasoning_tokens, charge, bill, write_off, upstream_cost, latencies, first_tokens
        )
        SELECT hour, user_id, key_id, model_name, upstream_id, api, status, is_local, sum(calls), sum(input_tokens), sum(output_tokens),
            sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(charge), sum(bill), sum(write_off),
            sum(upstream_cost), sum(latencies), sum(first_tokens)
        FROM counted
        GROUP BY hour, user_id, key_id, model_name, upstream_id, api, status, is_local
        ORDER BY hour, user_id, key_id, model_name, upstream_id, api, status, is_local
        ON CONFLICT (hour, user_id, api_key_id, model_name, upstream_id, api, status, is_local) DO UPDATE SET
            calls = hourly.calls + excluded.calls,
            input_tokens = hourly.input_tokens + excluded.input_tokens,
            output_tokens = hourly.output_tokens + excluded.output_tokens,
            cache_read_tokens = hourly.cache_read_tokens + excluded.cache_read_tokens,
            cache_write_tokens = hourly.cache_write_tokens + excluded.cache_write_tokens,
            reasoning_tokens = hourly.reasoning_tokens + excluded.reasoning_tokens,
            charge = hourly.charge + excluded.charge,
            bill = hourly.bill + excluded.bill,
            write_off = hourly.write_off + excluded.write_off,
            upstream_cost = hourly.upstream_cost + excluded.upstream_cost,
            latencies = hourly.latencies + excluded.latencies,
            first_tokens = hourly.first_tokens + excluded.first_tokens
    ), periods AS (
        -- see app/models/usage_period.py; a day's row is everybody's, so that each of some sessions has its own
        INSERT INTO aigcspace.usage_period AS known (
            period, start, shard, user_id, api_key_id, model_name, upstream_id, api, is_local, status, calls, input_tokens, output_tokens,
            cache_read_tokens, cache_write_tokens, reasoning_tokens, charge, bill, write_off, upstream_cost, latencies, first_tokens
        )
        SELECT told.*, status, sum(calls), sum(input_tokens), sum(output_tokens),
            sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(charge), sum(bill), sum(write_off),
            sum(upstream_cost), sum(latencies), sum(first_tokens)
        FROM counted CROSS JOIN LATERAL (VALUES
            ('day', date_trunc('day', hour, 'UTC'), pg_backend_pid() % 16, '', 0, model_name, upstream_id, api, is_local),
            ('month', date_trunc('month', hour, 'UTC'), 0, user_id, key_id, model_name, upstream_id, api, is_local),
            ('user', date_trunc('month', hour, 'UTC'), 0, user_id, 0, '', 0, '', false)
        ) AS told (period, start, shard, whose, which, model, upstream, way, is_ours)
        GROUP BY period, start, shard, whose, which, model, upstream, way, is_ours, status
        ORDER BY period, start, shard, whose, which, model, upstream, way, is_ours, status
        ON CONFLICT (period, start, shard, user_id, api_key_id, model_name, upstream_id, api, status, is_local) DO UPDATE SET
            calls = known.calls + excluded.calls,
            input_tokens = known.input_tokens + excluded.input_tokens,
            output_tokens = known.output_tokens + excluded.output_tokens,
            cache_read_tokens = known.cache_read_tokens + excluded.cache_read_tokens,
            cache_write_tokens = known.cache_write_tokens + excluded.cache_write_tokens,
            reasoning_tokens = known.reasoning_tokens + excluded.reasoning_tokens,
            charge = known.charge + excluded.charge,
            bill = known.bill + excluded.bill,
            write_off = known.write_off + excluded.write_off,
            upstream_cost = known.upstream_cost + excluded.upstream_cost,
            latencies = known.latencies + excluded.latencies,
            first_tokens = known.first_tokens + excluded.first_tokens
    )
    SELECT billed.entry, key.id, billed.charge, billed.write_off, billed.bill, coalesce(orphaned_at, now_at),
        CASE WHEN orphaned_at IS NOT NULL THEN now_at END
    FROM billed LEFT JOIN aigcspace.platform_api_key key ON key.id = billed.key_id
    ORDER BY billed.request_id;
END
$$;
