"""Tasks of the `django.tasks` API: what the registry and a worker know of them.

The API comes in two flavours that differ in their names alone: the package `django-tasks`, and Django's own from 6.0
on. Each has a module here that names its parts as a `Flavour`; all else is written once, against that. Neither need be
installed: a flavour's module is imported when a task of it is met.

A message's name is the dotted path of the task's function. It resolves in the modules of the installed apps and those
that the backend's `OPTIONS` name, and only where a task of the API stands there: a row can name no other code.
"""
