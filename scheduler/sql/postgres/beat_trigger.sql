-- name: find_tables
-- Where dcb's table and the schedules are, as this connection finds them; null: not there. The trigger, if installed.
SELECT beat.oid::regclass::text,
       (SELECT nspname FROM pg_namespace WHERE oid = schedule.relnamespace),
       EXISTS (SELECT FROM pg_trigger WHERE tgrelid = beat.oid AND tgname = 'scheduler_guard_beat' AND NOT tgisinternal)
FROM (SELECT 1) AS once
LEFT JOIN pg_class AS beat ON beat.oid = to_regclass('django_celery_beat_periodictask')
LEFT JOIN pg_class AS schedule ON schedule.oid = to_regclass('scheduler_pgperiodicschedule')

-- name: one_at_a_time
-- Two migrate processes would collide on the function's catalogue row.
SELECT pg_advisory_xact_lock(hashtextextended('scheduler_guard_beat', 20261122))

-- name: create_function
-- What ModelEntry.save() of a running Beat writes from memory must not undo what was committed meanwhile, and whoever
-- writes: a row that PG owns stays disabled, and keeps its name: under another it would not be known as PG's. One that is
-- on its way back (`beat_from`) is enabled while PG still fires what comes before.
--
-- It runs as its owner, because Beat's role may have no rights on the schedules, and it never makes Beat's own write
-- wait long or fail for the schedules' sake: where their table is locked away (a migration), `enabled` stays as it was,
-- but for a row that carries the mark of a schedule paused while Beat fired it (`scheduler.beat.rows`): that is Beat's.
CREATE OR REPLACE FUNCTION {schema}.scheduler_guard_beat() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '1s' AS $body$
DECLARE
    written record;
    is_renamed boolean := false;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.total_run_count > OLD.total_run_count THEN
            -- A write-back: only these columns are what Beat has to say; the rest is what it once read.
            written := NEW;
            NEW := OLD;
            NEW.total_run_count := written.total_run_count;
            NEW.date_changed := written.date_changed;
            NEW.last_run_at := greatest(OLD.last_run_at, written.last_run_at);
        END IF;
        is_renamed := NEW.name <> OLD.name;
    END IF;
    IF (NEW.enabled OR is_renamed) AND to_regclass({schedules_text}) IS NOT NULL THEN
        BEGIN
            IF is_renamed AND EXISTS (SELECT FROM {schedules} WHERE beat_name = OLD.name AND firer = 'pg') THEN
                NEW.name := OLD.name;
            END IF;
            IF EXISTS (
                SELECT FROM {schedules} WHERE beat_name = NEW.name AND firer = 'pg' AND beat_from IS NULL
            ) THEN
                NEW.enabled := false;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            IF TG_OP = 'UPDATE' AND position('"downbeat-paused": true' IN coalesce(OLD.headers, '')) = 0 THEN
                NEW.enabled := OLD.enabled;
            END IF;
        END;
    END IF;
    RETURN NEW;
END
$body$

-- name: create_trigger
CREATE OR REPLACE TRIGGER scheduler_guard_beat BEFORE INSERT OR UPDATE ON {beat}
FOR EACH ROW EXECUTE FUNCTION {schema}.scheduler_guard_beat()

-- name: drop
-- Without the schedules there is nothing to guard.
DROP FUNCTION IF EXISTS scheduler_guard_beat() CASCADE
