-- Derive region, year and shift of every loaded change. The table was emptied before, in the same transaction.
INSERT INTO pipelines_timezoneshift (zone, region, changed_at, year, shift_minutes)
SELECT zone,
       substr(zone, 1, instr(zone || '/', '/') - 1),
       changed_at,
       CAST(strftime('%Y', changed_at) AS INTEGER),
       offset_after_minutes - offset_before_minutes
FROM pipelines_timezonechange;
