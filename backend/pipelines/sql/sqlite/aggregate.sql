-- Rewrite the summary: one row per year and region of the changes from the given year on. It was emptied before, in the
-- same transaction, which nobody sees half of.
INSERT INTO pipelines_timezonesummary (year, region, zones, changes, forward, backward, first_at, last_at)
SELECT year, region,
       count(DISTINCT zone),
       count(*),
       count(*) FILTER (WHERE shift_minutes > 0),
       count(*) FILTER (WHERE shift_minutes < 0),
       min(changed_at),
       max(changed_at)
FROM pipelines_timezoneshift
WHERE year >= %(since_year)s
GROUP BY year, region;
