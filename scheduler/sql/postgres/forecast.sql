-- name: cadences
-- Enabled schedules that are due before `until`, by when they occur and by how much later they begin, those on a grid
-- left out; the most numerous first, and with each how many schedules there are in all. A crontab occurs on full minutes: of its delay only those count.
-- A bound (its start, its end, how often it may still be fired) is a part of the key only where it matters.
SELECT kind, cron_string, timezone, dialect, delay, starts_at, ends_at, remaining, count(*) AS schedules,
       (sum(count(*)) OVER ())::bigint AS schedules_in_all
FROM (
    SELECT kind, cron_string, timezone, dialect,
           CASE WHEN jitter_seconds = 0 OR firer = 'beat' THEN 0
                WHEN kind = 'crontab' THEN {jitter} / 60000 * 60000 ELSE {jitter} END AS delay,
           CASE WHEN starts_at > %(since)s THEN starts_at END AS starts_at,
           CASE WHEN ends_at < %(until)s THEN ends_at END AS ends_at,
           run_limit - run_count AS remaining
    FROM scheduler_pgperiodicschedule
    WHERE kind NOT IN ('interval', 'clocked') AND next_run_at < %(until)s AND {is_counted}
) AS schedule
GROUP BY kind, cron_string, timezone, dialect, delay, starts_at, ends_at, remaining
ORDER BY schedules DESC, kind, cron_string, timezone, dialect, delay
LIMIT %(most)s

-- name: grid_fires
-- How often intervals, and clocked schedules, which occur once, are fired and begin in each minute from `first_minute`
-- on; and, where the minute is null, how many schedules were looked at and how many were left out. Instants are
-- microseconds since 1970.
-- Intervals of one period whose occurrences fall into the same minutes are one series: a period of whole minutes does
-- not depend on the second, nor one of whole seconds on the fraction. What a series costs is known before: the most
-- numerous are laid out, as many as the bound admits.
WITH placed AS (
    SELECT {period} AS period,
           (extract(epoch FROM next_run_at) * 1e6)::bigint AS next_at,
           CASE WHEN ends_at < %(until)s THEN (extract(epoch FROM ends_at) * 1e6)::bigint END AS ends_at,
           {remaining} AS remaining,
           CASE WHEN jitter_seconds = 0 OR firer = 'beat' THEN 0 ELSE {jitter} END * 1000 AS delay,
           bound.*
    FROM scheduler_pgperiodicschedule
    CROSS JOIN (
        SELECT (extract(epoch FROM %(since)s::timestamptz) * 1e6)::bigint AS since,
               (extract(epoch FROM %(first_minute)s::timestamptz) * 1e6)::bigint AS origin,
               %(minutes)s::bigint AS minutes
    ) AS bound
    WHERE {is_on_grid} AND (kind = 'interval' OR next_run_at >= %(since)s) AND next_run_at < %(until)s AND {is_counted}
),
begun AS (
    SELECT *, CASE WHEN next_at >= since THEN next_at
                   ELSE next_at + (since - next_at + period - 1) / period * period END AS first_at,
           CASE WHEN period %% 60000000 = 0 THEN 60000000 WHEN period %% 1000000 = 0 THEN 1000000 ELSE 1 END AS unit
    FROM placed
),
sides AS (
    SELECT is_start, period, origin, minutes,
           CASE WHEN is_start THEN first_at + delay ELSE first_at END / unit * unit AS base,
           least(remaining, CASE WHEN ends_at IS NOT NULL
                                 THEN greatest(0, (ends_at - first_at + period - 1) / period) END) AS steps
    FROM begun CROSS JOIN (VALUES (false), (true)) AS side (is_start)
),
series AS (
    SELECT is_start, period, base, steps, origin, minutes, count(*) AS schedules,
           greatest(0, CASE WHEN period >= 60000000
                            THEN least(steps, (origin + minutes * 60000000 - base + period - 1) / period)
                            ELSE minutes END) AS cells
    FROM sides
    GROUP BY is_start, period, base, steps, origin, minutes
),
afforded AS (
    SELECT *, sum(cells) OVER (
               ORDER BY schedules DESC, cells, period, base, steps, is_start ROWS UNBOUNDED PRECEDING
           ) <= %(most)s AS is_laid_out
    FROM series
),
fires AS (
    SELECT is_start, (base + step * period - origin) / 60000000 AS minute, schedules AS fires
    FROM afforded CROSS JOIN LATERAL generate_series(0, cells - 1) AS step
    WHERE is_laid_out AND period >= 60000000
    UNION ALL
    SELECT is_start, minute,
           schedules * (least(steps, greatest(0, (origin + (minute + 1) * 60000000 - base + period - 1) / period))
                        - least(steps, greatest(0, (origin + minute * 60000000 - base + period - 1) / period)))
    FROM afforded CROSS JOIN LATERAL generate_series(0, minutes - 1) AS minute
    WHERE is_laid_out AND period < 60000000
)
SELECT minute, coalesce(sum(fires) FILTER (WHERE NOT is_start), 0)::bigint,
       coalesce(sum(fires) FILTER (WHERE is_start), 0)::bigint
FROM fires
WHERE minute >= 0 AND minute < %(minutes)s
GROUP BY minute
UNION ALL
SELECT NULL, coalesce(sum(schedules), 0)::bigint,
       coalesce(sum(schedules) FILTER (WHERE NOT is_laid_out), 0)::bigint
FROM afforded WHERE NOT is_start

-- name: grids_beginning
-- How many intervals and clocked schedules begin at least once in the minute from each of these instants.
SELECT position, count(*)
FROM unnest(%(minutes)s::timestamptz[]) WITH ORDINALITY AS minute (starts_at, position)
JOIN (
    SELECT {period} AS period,
           (extract(epoch FROM next_run_at) * 1e6)::bigint
               + CASE WHEN jitter_seconds = 0 OR firer = 'beat' THEN 0 ELSE {jitter} END * 1000 AS base,
           least({remaining}, CASE WHEN ends_at IS NOT NULL THEN
               greatest(0, ceil(extract(epoch FROM ends_at - next_run_at) * 1e6 / {period}))
           END)::bigint AS steps
    FROM scheduler_pgperiodicschedule
    WHERE {is_on_grid} AND {is_counted}
) AS schedule
    ON least(steps, greatest(0, ((extract(epoch FROM minute.starts_at) * 1e6)::bigint + 60000000 - base
                                 + period - 1) / period))
     > least(steps, greatest(0, ((extract(epoch FROM minute.starts_at) * 1e6)::bigint - base
                                 + period - 1) / period))
GROUP BY position

-- name: jitter
-- How much later than its occurrence a schedule's run begins, in milliseconds; as the tick has it.
(('x' || left(md5(pipeline_id::text), 8))::bit(32)::bigint * jitter_seconds * 1000 >> 32)

-- name: is_on_grid
-- What is laid out by its next occurrence and a period.
(kind = 'clocked' OR kind = 'interval' AND interval_seconds >= 0.001)

-- name: period
-- Microseconds; of a clocked one any will do, because it occurs once.
CASE WHEN kind = 'clocked' THEN 86400000000 ELSE (interval_seconds * 1e6)::bigint END

-- name: remaining
-- How often it may still be fired; null: for ever.
CASE WHEN kind = 'clocked' THEN 1 ELSE run_limit - run_count END

-- name: is_counted
-- Which schedules have occurrences ahead.
enabled AND quarantined_at IS NULL AND next_run_at IS NOT NULL
AND (%(organizations)s::text[] IS NULL OR organization_id = ANY (%(organizations)s::text[]))
AND pipeline_id IS DISTINCT FROM %(excluded)s::uuid
