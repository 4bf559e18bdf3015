-- Derive region, year and shift of every loaded change. Set-based and idempotent.
UPDATE pipelines_timezonechange
SET region = split_part(zone, '/', 1),
    year = extract(year FROM changed_at AT TIME ZONE 'UTC'),
    shift_minutes = offset_after_minutes - offset_before_minutes
WHERE region IS DISTINCT FROM split_part(zone, '/', 1)
   OR year IS DISTINCT FROM extract(year FROM changed_at AT TIME ZONE 'UTC')
   OR shift_minutes IS DISTINCT FROM offset_after_minutes - offset_before_minutes;
