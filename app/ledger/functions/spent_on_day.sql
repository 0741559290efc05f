-- What of `spent`, which was last added to on the day `spent_on`, counts today.
CREATE OR REPLACE FUNCTION aigcspace.spent_on_day(spent numeric, spent_on date, today date) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN spent_on = today THEN spent ELSE 0 END
$$;
