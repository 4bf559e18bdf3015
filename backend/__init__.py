"""The Django project: the only place that wires everything. Nothing imports it."""
