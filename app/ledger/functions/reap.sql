-- Settles holds of dead processes as what they are: calls that nobody ended. Their rows cost nothing and say so.
--
-- Only the choice is made here; the work is `settle`'s, and the caller inserts the rows. A process without a row in
-- `instance` is dead for good; only calls that go on in the background need none. Accounts that others have locked are left
-- for the next time, so that nobody waits for a reaper; the holds are chosen under the locks, as they may have been ended
-- until then.
--
-- most: holds to end at most. patience: milliseconds to wait for each lock. zone: as `settle` takes it.
CREATE OR REPLACE FUNCTION aigcspace.reap(most int, patience int, zone text)
RETURNS TABLE (
    entry jsonb, api_key_id int, charge numeric, write_off numeric, bill numeric, settled_at timestamptz, amended_at timestamptz
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    user_ids text[];
    dead jsonb;
    orphaned CONSTANT jsonb := '{
        "cost": "0", "status": "failed", "end_reason": "orphaned", "usage_source": "none", "input_tokens": 0, "output_tokens": 0,
        "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0
    }';
BEGIN
    PERFORM set_config('lock_timeout', patience::text, true);
    SELECT array_agg(DISTINCT found.user_id) INTO user_ids
    FROM (
        SELECT user_id FROM aigcspace.call_hold hold
        WHERE NOT EXISTS (SELECT FROM aigcspace.instance living WHERE living.id = hold.instance_id)
            AND NOT EXISTS (SELECT FROM aigcspace.background_call going WHERE going.request_id = hold.request_id)
        ORDER BY hold.request_id
        LIMIT most
    ) found;
    PERFORM 1 FROM aigcspace.users u WHERE u.id = ANY (user_ids) ORDER BY u.id FOR KEY SHARE;
    SELECT array_agg(locked.user_id) INTO user_ids
    FROM (
        SELECT a.user_id FROM aigcspace.account a WHERE a.user_id = ANY (user_ids) ORDER BY a.user_id FOR NO KEY UPDATE SKIP LOCKED
    ) locked;
    SELECT jsonb_agg(chosen.entry || orphaned) INTO dead
    FROM (
        SELECT entry FROM aigcspace.call_hold hold
        WHERE hold.user_id = ANY (user_ids)
            AND NOT EXISTS (SELECT FROM aigcspace.instance living WHERE living.id = hold.instance_id)
            AND NOT EXISTS (SELECT FROM aigcspace.background_call going WHERE going.request_id = hold.request_id)
        ORDER BY hold.request_id
        LIMIT most
    ) chosen;
    IF dead IS NOT NULL THEN
        RETURN QUERY SELECT * FROM aigcspace.settle(dead, patience, zone);
    END IF;
END
$$;
