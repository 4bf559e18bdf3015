"""What runs is found without a walk over all that has run."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pipelines", "0006_demo_beat")]

    operations = [
        migrations.AddIndex(
            model_name="pipelineexecution",
            index=models.Index(
                fields=["started_at", "id"],
                name="pipelines_execution_running",
                condition=models.Q(state="running"),
            ),
        ),
    ]
