from django.db import migrations, models

from pg_queue.operations import OnPostgreSQL

# A schedule's expression has up to 1000 characters: a pipeline's too, and the agreement cuts nothing off.
FOLLOW = """
CREATE OR REPLACE FUNCTION pipelines_follow_schedule() RETURNS trigger LANGUAGE plpgsql AS $$
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
        expression = CASE NEW.kind WHEN 'crontab' THEN {expression} ELSE expression END,
        updated_at = now()
    WHERE id = NEW.pipeline_id
      AND (active, name, timezone, dialect, expression) IS DISTINCT FROM
          (NEW.enabled, NEW.pipeline_name, NEW.timezone, NEW.dialect,
           CASE NEW.kind WHEN 'crontab' THEN {expression} ELSE expression END);
    RETURN NULL;
END $$;
"""
WHOLE = FOLLOW.format(expression="NEW.cron_string")
CUT_OFF = FOLLOW.format(expression="left(NEW.cron_string, 255)")
# What the old function has cut off; another expression of a pipeline than its schedule's can only come from it.
MEND = """
UPDATE pipelines_pipeline SET expression = schedule.cron_string
FROM scheduler_pgperiodicschedule AS schedule
WHERE schedule.pipeline_id = pipelines_pipeline.id AND schedule.kind = 'crontab' AND length(schedule.cron_string) > 255;
"""


class Migration(migrations.Migration):

    dependencies = [
        ("pipelines", "0004_demo_seeding"),
    ]

    operations = [
        migrations.AlterField(
            model_name="pipeline",
            name="expression",
            field=models.CharField(
                help_text="Five fields such as 30 6 * * mon-fri, or a macro such as @daily.",
                max_length=1000,
                verbose_name="cron expression",
            ),
        ),
        OnPostgreSQL([migrations.RunSQL(WHOLE, CUT_OFF), migrations.RunSQL(MEND, migrations.RunSQL.noop)]),
    ]
