"""A project's module that cannot be imported."""

raise RuntimeError("half of a deployment")
