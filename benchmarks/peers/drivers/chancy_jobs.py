"""The job of `chancy_driver`: the worker imports it by its module."""

from chancy import job
from common import note


@job(queue="default")
async def noop(*, sent_at: float) -> None:
    """Take the time, where asked."""
    note(sent_at)
