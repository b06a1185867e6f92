"""`chatqueue grants`: the SQL of the two least-privilege roles."""

from __future__ import annotations

import click

from exporter.release.grants import READER, RELEASER, UnsafeRoleName, build_grants


@click.command()
@click.option("--reader", default=READER, show_default=True, help="Role that watches.")
@click.option("--releaser", default=RELEASER, show_default=True, help="Role of release_dsn.")
@click.option(
    "--with-repairs",
    is_flag=True,
    help="Let the releaser also do what `chatqueue fix` and the flow of `chatqueue verify` do.",
)
def grants(reader: str, releaser: str, with_repairs: bool) -> None:
    """Print the SQL of two least-privilege roles, without passwords.

    Run it as the owner of the tables (on Supabase: postgres), after `chatqueue install`. It may be
    run again at any time, and without an option takes away what that option gave.
    """
    try:
        click.echo(build_grants(reader, releaser, with_repairs=with_repairs), nl=False)
    except UnsafeRoleName as error:
        raise click.UsageError(str(error)) from error
