"""App configuration."""

from django.apps import AppConfig


class PipelinesConfig(AppConfig):
    """The pipelines app."""

    name = "backend.pipelines"
    label = "pipelines"
