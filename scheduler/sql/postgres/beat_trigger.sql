-- name: find_tables
-- Where dcb's table and the schedules are, as this connection finds them; null: not there. The trigger, if installed and
-- not switched off. The note of who removed it, if somebody did.
SELECT beat.oid::regclass::text,
       (SELECT nspname FROM pg_namespace WHERE oid = schedule.relnamespace),
       EXISTS (
           SELECT FROM pg_trigger
           WHERE tgrelid = beat.oid AND tgname = 'scheduler_guard_beat' AND NOT tgisinternal AND tgenabled IN ('O', 'A')
       ),
       obj_description(to_regclass('scheduler_beatcatch'), 'pg_class')
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
-- What it undoes is noted, if that can be done at once.
CREATE OR REPLACE FUNCTION {schema}.scheduler_guard_beat() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '1s' AS $body$
DECLARE
    written record := NEW;
    is_renamed boolean := false;
    caught text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.total_run_count > OLD.total_run_count THEN
            -- A write-back: only these columns are what Beat has to say; the rest is what it once read.
            NEW := OLD;
            NEW.total_run_count := written.total_run_count;
            NEW.date_changed := written.date_changed;
            NEW.last_run_at := greatest(OLD.last_run_at, written.last_run_at);
        END IF;
        is_renamed := NEW.name <> OLD.name;
        IF written.enabled AND NOT OLD.enabled AND NEW.total_run_count > OLD.total_run_count THEN
            caught := 'write_back';
        END IF;
    END IF;
    IF (NEW.enabled OR is_renamed) AND to_regclass({schedules_text}) IS NOT NULL THEN
        BEGIN
            IF is_renamed AND EXISTS (SELECT FROM {schedules} WHERE beat_name = OLD.name AND firer = 'pg') THEN
                NEW.name := OLD.name;
                caught := 'renamed';
            END IF;
            IF EXISTS (
                SELECT FROM {schedules} WHERE beat_name = NEW.name AND firer = 'pg' AND beat_from IS NULL
            ) THEN
                NEW.enabled := false;
                IF caught IS NULL AND (TG_OP = 'INSERT' OR NOT OLD.enabled) THEN
                    caught := 'enabled';
                END IF;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            IF TG_OP = 'UPDATE' AND position('"downbeat-paused": true' IN coalesce(OLD.headers, '')) = 0 THEN
                NEW.enabled := OLD.enabled;
            END IF;
        END;
    END IF;
    IF caught IS NOT NULL THEN
        BEGIN
            PERFORM {schema}.scheduler_note_catch(caught, to_jsonb(written), to_jsonb(NEW));
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'scheduler_guard_beat: what it undid is not noted: %', SQLERRM;
        END;
    END IF;
    RETURN NEW;
END
$body$

-- name: create_note
-- Note what the guard undid of a write to the row of a schedule that PG owns: who wrote, and each column that was to
-- change with the value that it keeps. Once a minute for one writer, schedule and matter. (Its plan is made while the table
-- is empty, and one statement may write every row: by a sequential scan that would take time by the square.)
CREATE OR REPLACE FUNCTION {schema}.scheduler_note_catch(what text, written jsonb, kept jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog SET lock_timeout = '100ms' SET enable_seqscan = off AS $body$
BEGIN
    INSERT INTO {catches} (
        schedule_id, beat_name, caught_at, what, role, application_name, client_address, client_port, process_id, query,
        attempted
    )
    SELECT schedule.pipeline_id, schedule.beat_name, clock_timestamp(), what, session_user,
           current_setting('application_name'), inet_client_addr(), inet_client_port(), pg_backend_pid(),
           left(current_query(), 500),
           (SELECT coalesce(jsonb_object_agg(
                       key,
                       CASE WHEN length(value::text) + length((kept -> key)::text) <= 1000
                            THEN jsonb_build_array(kept -> key, value) ELSE '["…", "…"]' END
                   ), '{{}}')
            FROM jsonb_each(written)
            WHERE value IS DISTINCT FROM kept -> key)
    FROM {schedules} AS schedule
    WHERE schedule.beat_name = kept ->> 'name' AND schedule.firer = 'pg'
      AND NOT EXISTS (
          SELECT FROM {catches} AS earlier
          WHERE earlier.schedule_id = schedule.pipeline_id
            AND earlier.caught_at > clock_timestamp() - interval '1 minute'
            AND earlier.what = scheduler_note_catch.what
            AND earlier.role = session_user
            AND earlier.application_name = current_setting('application_name')
      );
END
$body$

-- name: create_trigger
CREATE OR REPLACE TRIGGER scheduler_guard_beat BEFORE INSERT OR UPDATE ON {beat}
FOR EACH ROW EXECUTE FUNCTION {schema}.scheduler_guard_beat()

-- name: drop
-- Without the schedules there is nothing to guard.
DROP FUNCTION IF EXISTS scheduler_guard_beat() CASCADE;
DROP FUNCTION IF EXISTS scheduler_note_catch(text, jsonb, jsonb)

-- name: drop_trigger
-- Somebody removes the guard.
DROP TRIGGER IF EXISTS scheduler_guard_beat ON {beat}

-- name: remember_removal
-- A removal outlives the next migrate.
COMMENT ON TABLE {catches} IS {note}

-- name: forget_removal
-- The guard is wanted again.
COMMENT ON TABLE {catches} IS NULL

-- name: guard_anew
-- Write each row of PG's that was enabled while there was no guard, so that the guard disables it.
WITH written AS (
    UPDATE {beat} AS beat SET enabled = true
    FROM {schedules} AS schedule
    WHERE beat.enabled AND beat.name = schedule.beat_name AND schedule.firer = 'pg'
    RETURNING beat.enabled
)
SELECT count(*) FILTER (WHERE NOT enabled) FROM written
