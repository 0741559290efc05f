-- A duration as a histogram of one call: 10^(12 k) for bucket k. Sums of such numbers are sums of histograms, exact and in one
-- column, as long as no bucket counts 10^12 calls; taking one away is a subtraction. NULL, of a call that has none: 0.
--
-- Bucket 0: below 1 ms. Bucket k: from bound k, inclusive, to bound k + 1. The bounds are 1.1 apart, from 1 ms to an hour; they
-- are those of app/reports/latencies.py, and never change: what is summed up can't be sorted anew.
CREATE OR REPLACE FUNCTION aigcspace.latency_bucket(ms int) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN ms IS NULL THEN 0 ELSE ('1e' || (12 * width_bucket(ms, '{
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 26, 28, 31, 34, 37, 41, 45, 50, 55, 60,
        66, 73, 80, 88, 97, 107, 117, 129, 142, 156, 172, 189, 208, 229, 252, 277, 304, 335, 368, 405, 446, 490, 539,
        593, 653, 718, 790, 869, 956, 1051, 1156, 1272, 1399, 1539, 1693, 1862, 2048, 2253, 2479, 2726, 2999, 3299,
        3629, 3992, 4391, 4830, 5313, 5844, 6429, 7072, 7779, 8557, 9412, 10354, 11389, 12528, 13781, 15159, 16675,
        18342, 20176, 22194, 24413, 26855, 29540, 32494, 35743, 39318, 43249, 47574, 52332, 57565, 63322, 69654,
        76619, 84281, 92709, 101980, 112178, 123396, 135735, 149309, 164240, 180664, 198730, 218603, 240463, 264510,
        290961, 320057, 352063, 387269, 425996, 468595, 515455, 567000, 623700, 686070, 754677, 830145, 913160,
        1004475, 1104923, 1215415, 1336957, 1470653, 1617718, 1779490, 1957439, 2153182, 2368501, 2605351, 2865886,
        3152474, 3467722
    }'::int[]))::text)::numeric END
$$;
