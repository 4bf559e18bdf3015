"""`celery -A proj downbeat`: what the app's broker is, and what waits there. Loaded by every `celery` command."""

from __future__ import annotations

from typing import Any

import click


@click.command(name="downbeat", short_help="Show where the app's broker is, and what waits there.")
@click.pass_context
def downbeat(context: Any) -> None:
    """Show where the broker downbeat:// of the app is, and what waits there."""
    from pg_queue.celery.transport.address import resolve
    from pg_queue.celery.transport.sessions import OwnSession, check, store_on

    connection = context.obj.app.connection_for_read()
    if connection.transport.driver_type != "downbeat":
        raise click.ClickException(f"expected a broker_url of downbeat://, got: {connection.as_uri()}")
    address = resolve(connection.hostname, connection.transport_options)
    check(address)
    session = OwnSession(address, name="downbeat broker command")
    try:
        click.echo(
            f"broker: {connection.as_uri()} namespace={address.place.namespace!r} lease={address.lease_seconds:g} s"
        )
        click.echo(
            f"wakes: {'at once (LISTEN)' if session.is_direct else f'every {address.poll_seconds:g} s (a proxy)'}"
        )
        for depth in store_on(session, address).depths():
            click.echo(
                f"queue {depth.queue}: {depth.waiting} waiting, {depth.delayed} delayed, {depth.running} running, "
                f"{depth.dead} dead"
            )
    finally:
        session.close()
