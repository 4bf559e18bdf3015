"""Celery's tasks, run natively: found in the current app's registry, executed in the worker's own process.

Nothing is sent to a broker. The only importer of celery in this app; everything else works without it.
"""
