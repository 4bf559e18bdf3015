from django.db import migrations

from pg_queue.operations import OnPostgreSQL

# A schedule can also be changed on its own side: in the admin, by REST, by the command. What a pipeline shows then
# follows, inside the same transaction. The tick sets neither of the two columns named, so it never runs the function;
# no other column is named, because PostgreSQL refuses to alter the type of a column that a trigger names.
AGREEMENT = """
CREATE FUNCTION pipelines_follow_schedule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        UPDATE pipelines_pipeline SET active = false, updated_at = now() WHERE id = OLD.pipeline_id AND active;
        RETURN NULL;
    END IF;
    UPDATE pipelines_pipeline
    SET active = NEW.enabled,
        name = NEW.pipeline_name,
        timezone = NEW.timezone,
        dialect = NEW.dialect,
        expression = CASE NEW.kind WHEN 'crontab' THEN left(NEW.cron_string, 255) ELSE expression END,
        updated_at = now()
    WHERE id = NEW.pipeline_id
      AND (active, name, timezone, dialect, expression) IS DISTINCT FROM
          (NEW.enabled, NEW.pipeline_name, NEW.timezone, NEW.dialect,
           CASE NEW.kind WHEN 'crontab' THEN left(NEW.cron_string, 255) ELSE expression END);
    RETURN NULL;
END $$;
CREATE TRIGGER pipelines_follow_schedule
    AFTER UPDATE OF enabled, updated_at ON scheduler_pgperiodicschedule
    FOR EACH ROW EXECUTE FUNCTION pipelines_follow_schedule();
CREATE TRIGGER pipelines_outlive_schedule
    AFTER DELETE ON scheduler_pgperiodicschedule
    FOR EACH ROW EXECUTE FUNCTION pipelines_follow_schedule();
"""
NO_AGREEMENT = """
DROP TRIGGER pipelines_outlive_schedule ON scheduler_pgperiodicschedule;
DROP TRIGGER pipelines_follow_schedule ON scheduler_pgperiodicschedule;
DROP FUNCTION pipelines_follow_schedule();
"""


def create_default(apps, schema_editor):
    organizations = apps.get_model("pipelines", "Organization").objects.using(schema_editor.connection.alias)
    organizations.get_or_create(slug="default", defaults={"name": "Default"})


class Migration(migrations.Migration):

    dependencies = [
        ("pipelines", "0001_initial"),
        ("scheduler", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(create_default, migrations.RunPython.noop),
        OnPostgreSQL([migrations.RunSQL(AGREEMENT, NO_AGREEMENT)]),  # SQLite's: backend.pipelines.agreement
    ]
