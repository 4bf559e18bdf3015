-- Rewrite the summary: one row per year and region of the changes from %(since_year)s on. Rows that are gone go too.
WITH summary AS (
    SELECT year, region,
           count(DISTINCT zone) AS zones,
           count(*) AS changes,
           count(*) FILTER (WHERE shift_minutes > 0) AS forward,
           count(*) FILTER (WHERE shift_minutes < 0) AS backward,
           min(changed_at) AS first_at,
           max(changed_at) AS last_at
    FROM pipelines_timezoneshift
    WHERE year >= %(since_year)s
    GROUP BY year, region
), gone AS (
    DELETE FROM pipelines_timezonesummary AS old
    WHERE NOT EXISTS (SELECT FROM summary AS new WHERE (new.year, new.region) = (old.year, old.region))
)
INSERT INTO pipelines_timezonesummary AS old (year, region, zones, changes, forward, backward, first_at, last_at)
SELECT year, region, zones, changes, forward, backward, first_at, last_at FROM summary
ON CONFLICT ON CONSTRAINT pipelines_summary_once DO UPDATE
SET (zones, changes, forward, backward, first_at, last_at)
  = (excluded.zones, excluded.changes, excluded.forward, excluded.backward, excluded.first_at, excluded.last_at);
