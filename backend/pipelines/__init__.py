"""The host's own domain: pipelines, whose schedules are created, paused, resumed and deleted."""
