-- Hands calls that go on in the background over to nobody in particular: their holds stay, whatever becomes of the process
-- that made them, until somebody finds the response final and settles it.
--
-- Only `settle` calls this, under its locks. batch: as there; entries with a `deferred` are meant:
-- {"upstream_id", "object_id", "terms"}. A call whose row is there already has ended, and is left as it is; an orphan, whose
-- truth may come late, has not.
CREATE OR REPLACE FUNCTION aigcspace.defer(batch jsonb) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH item AS (
        SELECT DISTINCT ON (request_id) (item ->> 'request_id')::uuid AS request_id, item ->> 'user_id' AS user_id,
            item -> 'deferred' AS deferred, item - 'deferred' - 'objects' - 'are_lasting' AS entry
        FROM jsonb_array_elements(batch) item
        WHERE item ? 'deferred'
        ORDER BY request_id
    ), kept AS (
        INSERT INTO aigcspace.background_call (request_id, user_id, upstream_id, object_id, entry, terms, next_look, created_at)
        SELECT item.request_id, item.user_id, (deferred ->> 'upstream_id')::int, deferred ->> 'object_id', entry, deferred -> 'terms',
            clock_timestamp() + interval '1 second', clock_timestamp()
        FROM item
        JOIN aigcspace.account account ON account.user_id = item.user_id
        LEFT JOIN aigcspace.api_call_log row ON row.request_id = item.request_id
        WHERE row.request_id IS NULL OR row.end_reason = 'orphaned' AND row.amended_at IS NULL
        ON CONFLICT (request_id) DO NOTHING
    )
    UPDATE aigcspace.call_hold SET instance_id = '00000000-0000-0000-0000-000000000000'
    FROM item WHERE call_hold.request_id = item.request_id;
END
$$;
