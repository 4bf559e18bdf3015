"""REST. Schedules and pipelines change through the choke points only; runs, tasks and messages are read."""
