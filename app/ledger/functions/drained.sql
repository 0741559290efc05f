-- What is left in a leaky bucket that held `level` and has drained by `per_minute` for so long. Without a limit: nothing.
CREATE OR REPLACE FUNCTION aigcspace.drained(level double precision, per_minute int, since interval) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT greatest(0, level - per_minute / 60.0 * extract(epoch FROM since))
$$;
