from django.db import migrations, models

from pg_queue.operations import OnPostgreSQL
from pg_queue.sql import statements

# As they are at present, where 0005 has created them as they were.
CREATE = ";\n".join(statements("turns").values())


class Migration(migrations.Migration):

    dependencies = [
        ('pg_queue', '0007_outcomes_by_namespace'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='message',
            name='pg_queue_message_turns',
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('lease_until__isnull', True)), fields=['namespace', 'queue', 'priority', 'organization_id', 'run_after', 'sequence'], name='pg_queue_message_turns'),
        ),
        OnPostgreSQL([migrations.RunSQL(CREATE, migrations.RunSQL.noop)]),
    ]
