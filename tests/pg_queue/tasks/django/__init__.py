"""The backend of the `django.tasks` API, on the flavour that this Django has: its own from 6.0 on, else the package's.

Each file says which behaviours of the API's own suites it holds the backend to.
"""
