-- Derive region, year and shift of every loaded change. TRUNCATE first, in the same transaction.
INSERT INTO pipelines_timezoneshift (zone, region, changed_at, year, shift_minutes)
SELECT zone,
       split_part(zone, '/', 1),
       changed_at,
       extract(year FROM changed_at AT TIME ZONE 'UTC'),
       offset_after_minutes - offset_before_minutes
FROM pipelines_timezonechange;
