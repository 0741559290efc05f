-- What of `spent`, which was last added to on the day `spent_on`, counts this month.
CREATE OR REPLACE FUNCTION aigcspace.spent_in_month(spent numeric, spent_on date, today date) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN date_trunc('month', spent_on) = date_trunc('month', today) THEN spent ELSE 0 END
$$;
