from django.db import migrations, models

from pg_queue.operations import OnPostgreSQL
from pg_queue.sql import statements

# As they are at present: a later change of them is a migration that runs the same file again.
CREATE = ";\n".join(statements("turns").values())
DROP = """
DROP FUNCTION pg_queue_pick, pg_queue_overdue, pg_queue_running, pg_queue_take, pg_queue_full,
    pg_queue_waiting
"""


class Migration(migrations.Migration):

    dependencies = [
        ('pg_queue', '0004_ready_by_namespace'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('claim_token__isnull', True)), fields=['namespace', 'queue', 'priority', 'organization_id', 'run_after', 'sequence'], name='pg_queue_message_turns'),
        ),
        OnPostgreSQL([migrations.RunSQL(CREATE, DROP)]),
    ]
