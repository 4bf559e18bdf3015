from django.db import migrations, models

from pg_queue.operations import OnPostgreSQL


class Migration(migrations.Migration):

    dependencies = [
        ('pg_queue', '0011_celery_results'),
    ]

    operations = [
        migrations.CreateModel(
            name='Binding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.CharField(blank=True, db_default='', max_length=64)),
                ('exchange', models.CharField(max_length=255)),
                ('kind', models.CharField(max_length=16)),
                ('routing_key', models.CharField(blank=True, max_length=255)),
                ('pattern', models.TextField(blank=True)),
                ('queue', models.CharField(max_length=255)),
            ],
            options={
                'indexes': [models.Index(fields=['namespace', 'queue'], name='pg_queue_binding_queue')],
                'constraints': [models.UniqueConstraint(fields=('namespace', 'exchange', 'routing_key', 'queue'), name='pg_queue_binding_once')],
            },
        ),
        migrations.CreateModel(
            name='Broadcast',
            fields=[
                ('sequence', models.BigAutoField(primary_key=True, serialize=False)),
                ('namespace', models.CharField(blank=True, db_default='', max_length=64)),
                ('queue', models.CharField(max_length=255)),
                ('payload', models.TextField()),
            ],
            options={
                'indexes': [models.Index(fields=['namespace', 'queue', 'sequence'], name='pg_queue_broadcast_order')],
            },
        ),
        migrations.CreateModel(
            name='BrokerQueue',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.CharField(blank=True, db_default='', max_length=64)),
                ('name', models.CharField(max_length=255)),
                ('is_transient', models.BooleanField()),
                ('is_exclusive', models.BooleanField()),
                ('ttl_seconds', models.FloatField(blank=True, null=True)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('expires_at__isnull', False)), fields=['expires_at'], name='pg_queue_brokerqueue_expiring')],
                'constraints': [models.UniqueConstraint(fields=('namespace', 'name'), name='pg_queue_brokerqueue_once')],
            },
        ),
        # Events and replies are worth nothing after a crash: they need not be written twice.
        OnPostgreSQL([
            migrations.RunSQL(
                "ALTER TABLE pg_queue_broadcast SET UNLOGGED", "ALTER TABLE pg_queue_broadcast SET LOGGED"
            ),
        ]),
    ]
