
import django.db.models.functions.datetime
import uuid
from django.db import migrations, models

from pg_queue.operations import OnPostgreSQL


# RFC 9562, section 5.7: 48 bits of Unix milliseconds, then random bits with version and variant set.
# PostgreSQL has uuidv7() of its own from 18 on.
UUID7 = """
CREATE FUNCTION pg_queue_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        set_bit(
            set_bit(
                overlay(
                    uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6
                ),
                52, 1
            ),
            53, 1
        ),
        'hex'
    )::uuid
$$
"""


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        # SQLite's are in pg_queue.sqlite.
        OnPostgreSQL(
            [
                migrations.RunSQL(
                    "CREATE SEQUENCE pg_queue_message_sequence CACHE 100", "DROP SEQUENCE pg_queue_message_sequence"
                ),
                migrations.RunSQL(UUID7, "DROP FUNCTION pg_queue_uuid7()"),
            ]
        ),
        migrations.CreateModel(
            name='Leader',
            fields=[
                ('name', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('term', models.BigIntegerField(default=0)),
                ('pid', models.IntegerField(blank=True, null=True)),
                ('backend_start', models.DateTimeField(blank=True, null=True)),
                ('host', models.CharField(blank=True, max_length=255)),
                ('process_id', models.IntegerField(blank=True, null=True)),
                ('since', models.DateTimeField(blank=True, null=True)),
                ('heartbeat_at', models.DateTimeField(blank=True, null=True)),
                ('previous_heartbeat_at', models.DateTimeField(blank=True, null=True)),
                ('resigned_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='DeadLetter',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('queue', models.CharField(max_length=128)),
                ('priority', models.SmallIntegerField()),
                ('task', models.CharField(max_length=255)),
                ('args', models.JSONField(default=list)),
                ('kwargs', models.JSONField(default=dict)),
                ('headers', models.JSONField(default=dict)),
                ('organization_id', models.CharField(blank=True, max_length=64)),
                ('report_to', models.CharField(blank=True, max_length=32, null=True)),
                ('attempts', models.SmallIntegerField()),
                ('max_attempts', models.SmallIntegerField()),
                ('enqueued_at', models.DateTimeField()),
                ('died_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('error', models.JSONField()),
            ],
            options={
                'indexes': [models.Index(fields=['died_at', 'id'], name='pg_queue_deadletter_died')],
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.UUIDField(db_default=models.Func(function='pg_queue_uuid7', output_field=models.UUIDField()), default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('sequence', models.BigIntegerField(db_default=models.Func(models.Value('pg_queue_message_sequence'), function='nextval', output_field=models.BigIntegerField()), editable=False)),
                ('queue', models.CharField(db_default='default', max_length=128)),
                ('priority', models.SmallIntegerField(db_default=5)),
                ('run_after', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('task', models.CharField(max_length=255)),
                ('args', models.JSONField(default=list)),
                ('kwargs', models.JSONField(default=dict)),
                ('headers', models.JSONField(default=dict)),
                ('organization_id', models.CharField(blank=True, db_default='', max_length=64)),
                ('report_to', models.CharField(blank=True, max_length=32, null=True)),
                ('attempts', models.SmallIntegerField(db_default=0)),
                ('max_attempts', models.SmallIntegerField()),
                ('enqueued_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('claim_token', models.UUIDField(blank=True, null=True)),
                ('claimed_by', models.CharField(blank=True, max_length=255, null=True)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('last_error', models.JSONField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('claim_token__isnull', True)), fields=['queue', 'priority', 'run_after', 'sequence'], name='pg_queue_message_ready'), models.Index(condition=models.Q(('claim_token__isnull', False)), fields=['lease_until'], name='pg_queue_message_claimed')],
                'constraints': [models.CheckConstraint(condition=models.Q(('priority__range', (1, 10))), name='pg_queue_message_priority_range'), models.CheckConstraint(condition=models.Q(('attempts__gte', 0), ('max_attempts__gte', 1)), name='pg_queue_message_attempts_range'), models.CheckConstraint(condition=models.Q(models.Q(('claim_token__isnull', True), ('claimed_by__isnull', True), ('lease_until__isnull', True)), models.Q(('claim_token__isnull', False), ('claimed_by__isnull', False), ('lease_until__isnull', False)), _connector='OR'), name='pg_queue_message_claim_whole')],
            },
        ),
        migrations.CreateModel(
            name='Result',
            fields=[
                ('message_id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('waiting', 'waiting'), ('running', 'running'), ('succeeded', 'succeeded'), ('failed', 'failed'), ('cancelled', 'cancelled')], max_length=16)),
                ('task', models.CharField(max_length=255)),
                ('queue', models.CharField(max_length=128)),
                ('priority', models.SmallIntegerField()),
                ('organization_id', models.CharField(blank=True, max_length=64)),
                ('headers', models.JSONField(default=dict)),
                ('report_to', models.CharField(blank=True, max_length=32, null=True)),
                ('value', models.JSONField(blank=True, null=True)),
                ('error', models.JSONField(blank=True, null=True)),
                ('attempts', models.SmallIntegerField()),
                ('max_attempts', models.SmallIntegerField()),
                ('worker', models.CharField(blank=True, max_length=255, null=True)),
                ('run_after', models.DateTimeField()),
                ('enqueued_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('report_to__isnull', False)), fields=['report_to', 'finished_at'], name='pg_queue_result_unreported'), models.Index(condition=models.Q(('expires_at__isnull', False)), fields=['expires_at'], name='pg_queue_result_expiring')],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['cancelled', 'failed', 'succeeded'])), name='pg_queue_result_state_terminal')],
            },
        ),
        migrations.CreateModel(
            name='Worker',
            fields=[
                ('id', models.CharField(max_length=255, primary_key=True, serialize=False)),
                ('host', models.CharField(max_length=255)),
                ('process_id', models.IntegerField()),
                ('queues', models.JSONField(default=list)),
                ('concurrency', models.SmallIntegerField()),
                ('started_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('heartbeat_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('stopped_at', models.DateTimeField(blank=True, null=True)),
                ('running', models.IntegerField(db_default=0)),
                ('finished', models.BigIntegerField(db_default=0)),
                ('failed', models.BigIntegerField(db_default=0)),
            ],
            options={
                'indexes': [models.Index(fields=['heartbeat_at'], name='pg_queue_worker_heartbeat')],
            },
        ),
    ]
