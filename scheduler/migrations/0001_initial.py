
import django.db.models.deletion
import django.db.models.functions.datetime
import uuid
from django.db import migrations, models

from pg_queue.operations import OnPostgreSQL


# Django cannot create a partitioned table. The columns are those of the state operation beside it; a test compares
# the two. Other databases get what the state says. Months are added ahead by the ledger's retention duty; what falls in none lands in the default partition.
LEDGER = """
CREATE TABLE scheduler_schedulerun (
    id uuid NOT NULL,
    schedule_id uuid NOT NULL,
    organization_id varchar(64) NOT NULL,
    scheduled_for timestamptz NOT NULL,
    span_end timestamptz,
    occurrences bigint DEFAULT 1,
    origin varchar(8) NOT NULL DEFAULT 'schedule',
    firer varchar(4) NOT NULL,
    state varchar(16) NOT NULL,
    term bigint,
    fired_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    result jsonb,
    error jsonb,
    recorded_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT scheduler_schedulerun_pkey PRIMARY KEY (id, scheduled_for),
    CONSTRAINT scheduler_run_one_per_occurrence UNIQUE (schedule_id, scheduled_for, origin),
    CONSTRAINT scheduler_run_span_ordered CHECK (span_end IS NULL OR span_end >= scheduled_for),
    CONSTRAINT scheduler_run_fired_has_instant
        CHECK (state NOT IN ('fired', 'running', 'succeeded', 'failed') OR fired_at IS NOT NULL)
) PARTITION BY RANGE (scheduled_for);
CREATE INDEX scheduler_run_recent ON scheduler_schedulerun (organization_id, scheduled_for DESC, id);
CREATE TABLE scheduler_schedulerun_default PARTITION OF scheduler_schedulerun DEFAULT;
"""


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='MirrorFailure',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('schedule_id', models.UUIDField()),
                ('beat_name', models.CharField(max_length=200)),
                ('path', models.CharField(max_length=16)),
                ('error', models.TextField()),
                ('failed_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('repaired_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['-failed_at'], name='scheduler_mirrorfailure_recent')],
            },
        ),
        migrations.CreateModel(
            name='PgPeriodicSchedule',
            fields=[
                ('pipeline_id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('beat_name', models.CharField(editable=False, max_length=200, unique=True)),
                ('organization_id', models.CharField(db_default='default', max_length=64)),
                ('workflow_id', models.CharField(blank=True, max_length=255, null=True)),
                ('pipeline_name', models.CharField(max_length=255)),
                ('kind', models.CharField(choices=[('crontab', 'crontab'), ('interval', 'interval')], max_length=16)),
                ('cron_string', models.CharField(max_length=255, verbose_name='expression')),
                ('timezone', models.CharField(db_default='UTC', max_length=64)),
                ('dialect', models.CharField(choices=[('unix', 'unix'), ('celery', 'celery')], db_default='unix', max_length=8)),
                ('interval_seconds', models.FloatField(blank=True, editable=False, null=True)),
                ('task', models.CharField(max_length=255)),
                ('args', models.JSONField(blank=True, default=list)),
                ('kwargs', models.JSONField(blank=True, default=dict)),
                ('queue', models.CharField(db_default='default', max_length=128)),
                ('priority', models.SmallIntegerField(db_default=5)),
                ('max_attempts', models.SmallIntegerField(blank=True, null=True)),
                ('firer', models.CharField(choices=[('beat', 'beat'), ('pg', 'pg')], db_default='pg', max_length=4)),
                ('enabled', models.BooleanField(db_default=True)),
                ('pause_note', models.CharField(blank=True, db_default='', max_length=500)),
                ('paused_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('starts_at', models.DateTimeField(blank=True, null=True)),
                ('ends_at', models.DateTimeField(blank=True, null=True)),
                ('grace_seconds', models.PositiveIntegerField(blank=True, null=True)),
                ('last_run_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('next_run_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('quarantined_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('quarantine_error', models.TextField(blank=True, db_default='', editable=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'verbose_name': 'schedule',
                'indexes': [models.Index(condition=models.Q(('enabled', True), ('firer', 'pg'), ('quarantined_at__isnull', True)), fields=['next_run_at', 'pipeline_id'], name='scheduler_schedule_due'), models.Index(fields=['organization_id', 'pipeline_id'], name='scheduler_schedule_org')],
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ['crontab', 'interval'])), name='scheduler_schedule_kind_known'), models.CheckConstraint(condition=models.Q(('firer__in', ['beat', 'pg'])), name='scheduler_schedule_firer_known'), models.CheckConstraint(condition=models.Q(('dialect__in', ['unix', 'celery'])), name='scheduler_schedule_dialect_known'), models.CheckConstraint(condition=models.Q(('priority__range', (1, 10))), name='scheduler_schedule_priority_range'), models.CheckConstraint(condition=models.Q(models.Q(('interval_seconds__gt', 0), ('kind', 'interval')), models.Q(models.Q(('kind', 'interval'), _negated=True), ('interval_seconds__isnull', True)), _connector='OR'), name='scheduler_schedule_interval_whole')],
            },
        ),
        OnPostgreSQL(
            database_operations=[migrations.RunSQL(LEDGER, 'DROP TABLE scheduler_schedulerun')],
            state_operations=[
                migrations.CreateModel(
                    name='ScheduleRun',
                    fields=[
                        ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                        ('organization_id', models.CharField(max_length=64)),
                        ('scheduled_for', models.DateTimeField()),
                        ('span_end', models.DateTimeField(blank=True, null=True)),
                        ('occurrences', models.BigIntegerField(blank=True, db_default=1, null=True)),
                        ('origin', models.CharField(choices=[('schedule', 'schedule'), ('manual', 'manual'), ('shadow', 'shadow')], db_default='schedule', max_length=8)),
                        ('firer', models.CharField(choices=[('beat', 'beat'), ('pg', 'pg')], max_length=4)),
                        ('state', models.CharField(choices=[('fired', 'fired'), ('running', 'running'), ('succeeded', 'succeeded'), ('failed', 'failed'), ('coalesced', 'coalesced'), ('skipped', 'skipped'), ('expired', 'expired'), ('paused', 'paused'), ('other_firer', 'other_firer'), ('no_leader', 'no_leader')], max_length=16)),
                        ('term', models.BigIntegerField(blank=True, null=True)),
                        ('fired_at', models.DateTimeField(blank=True, null=True)),
                        ('started_at', models.DateTimeField(blank=True, null=True)),
                        ('finished_at', models.DateTimeField(blank=True, null=True)),
                        ('result', models.JSONField(blank=True, null=True)),
                        ('error', models.JSONField(blank=True, null=True)),
                        ('recorded_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                        ('schedule', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='runs', to='scheduler.pgperiodicschedule')),
                    ],
                    options={
                        'verbose_name': 'run',
                        'indexes': [models.Index(fields=['organization_id', '-scheduled_for', 'id'], name='scheduler_run_recent')],
                        'constraints': [models.CheckConstraint(condition=models.Q(('span_end__isnull', True), ('span_end__gte', models.F('scheduled_for')), _connector='OR'), name='scheduler_run_span_ordered'), models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['failed', 'fired', 'running', 'succeeded']), _negated=True), ('fired_at__isnull', False), _connector='OR'), name='scheduler_run_fired_has_instant'), models.UniqueConstraint(fields=('schedule', 'scheduled_for', 'origin'), name='scheduler_run_one_per_occurrence')],
                    },
                ),
            ],
        ),
    ]
