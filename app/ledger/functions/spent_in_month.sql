-- What of `spent`, which was last added to on the day `spent_on`, counts this month. On timestamps without a zone, as only what is
-- immutable is made a part of the statement that calls it: else each row would start a query of its own.
CREATE OR REPLACE FUNCTION aigcspace.spent_in_month(spent numeric, spent_on date, today date) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN date_trunc('month', spent_on::timestamp) = date_trunc('month', today::timestamp) THEN spent ELSE 0 END
$$;
