-- name: follow
-- A pipeline shows what its schedule says. The tick sets neither of the two columns named, so it never runs this.
CREATE TRIGGER IF NOT EXISTS pipelines_follow_schedule
AFTER UPDATE OF enabled, updated_at ON scheduler_pgperiodicschedule
BEGIN
    UPDATE pipelines_pipeline
    SET active = NEW.enabled,
        name = NEW.pipeline_name,
        timezone = NEW.timezone,
        dialect = NEW.dialect,
        expression = CASE NEW.kind WHEN 'crontab' THEN NEW.cron_string ELSE expression END,
        updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
    WHERE id = NEW.pipeline_id
      AND (active, name, timezone, dialect, expression) IS NOT
          (NEW.enabled, NEW.pipeline_name, NEW.timezone, NEW.dialect,
           CASE NEW.kind WHEN 'crontab' THEN NEW.cron_string ELSE expression END);
END

-- name: outlive
-- A pipeline whose schedule is gone is not active.
CREATE TRIGGER IF NOT EXISTS pipelines_outlive_schedule
AFTER DELETE ON scheduler_pgperiodicschedule
BEGIN
    UPDATE pipelines_pipeline SET active = 0, updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
    WHERE id = OLD.pipeline_id AND active;
END

-- name: stop_following
DROP TRIGGER IF EXISTS pipelines_follow_schedule

-- name: stop_outliving
DROP TRIGGER IF EXISTS pipelines_outlive_schedule
