"""The command line `fpsset`."""

import sys

import click

from fpsset.commands.aggregate import aggregate
from fpsset.commands.calibrate import calibrate
from fpsset.commands.convert import convert
from fpsset.commands.doctor import doctor
from fpsset.commands.export import export
from fpsset.commands.fit import fit
from fpsset.commands.report import report
from fpsset.commands.select import select
from fpsset.commands.simulate_ijb import simulate_ijb
from fpsset.commands.verify import verify
from fpsset.errors import InputError
from fpsset.runtime.exits import exit_code


@click.group(invoke_without_command=True)
@click.pass_context
def fpsset(context: click.Context) -> None:
    """One descriptor from a set of faces of one person.

    To train, evaluate or extract features, run a config: python -m fpsset.main --help.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for subcommand in (fit, aggregate, select, calibrate, verify, report, convert, export, simulate_ijb, doctor):
    fpsset.add_command(subcommand)


def main(argv: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""

    def command() -> None:
        try:
            fpsset.main(argv, prog_name="fpsset", standalone_mode=False)
        except click.Abort as error:
            raise KeyboardInterrupt from error
        except click.ClickException as error:
            raise InputError(error.format_message()) from error

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
