"""The subcommands of `fpsset`."""

import click

import fpsset as package
from fpsset.commands.aggregate import aggregate
from fpsset.commands.calibrate import calibrate
from fpsset.commands.configured import CONFIGURED
from fpsset.commands.convert import convert
from fpsset.commands.doctor import doctor
from fpsset.commands.export import export
from fpsset.commands.faces import faces
from fpsset.commands.fetch import fetch
from fpsset.commands.fit import fit
from fpsset.commands.identify import identify
from fpsset.commands.people import people
from fpsset.commands.report import report
from fpsset.commands.select import select
from fpsset.commands.simulate_ijb import simulate_ijb
from fpsset.commands.simulate_search import simulate_search
from fpsset.commands.verify import verify
from fpsset.errors import InputError
from fpsset.runtime.interrupts import STOPPED, Interrupted


class _Group(click.Group):
    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except KeyboardInterrupt as error:  # click would print an empty line
            raise Interrupted(STOPPED) from error


@click.group(cls=_Group, invoke_without_command=True)
@click.version_option(package.__version__, message="%(prog)s %(version)s")
@click.pass_context
def fpsset(context: click.Context) -> None:
    """One descriptor from a set of faces of one person.

    Begin with fpsset train quickstart, which needs no data. For completion with the Tab key, add
    eval "$(_FPSSET_COMPLETE=bash_source fpsset)" to ~/.bashrc, or the same with zsh_source to ~/.zshrc.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_COMMANDS = (
    *CONFIGURED,
    *(fetch, faces, fit, aggregate, select, calibrate, verify, people),
    *(identify, report, convert, export, simulate_ijb, simulate_search, doctor),
)
for subcommand in _COMMANDS:
    fpsset.add_command(subcommand)


def run_command(argv: list[str] | None) -> None:
    """Runs a command line; None: that of this process.

    Raises:
      InputError: bad options or input.
      Interrupted: the command was stopped by a signal.
    """
    try:
        fpsset.main(argv, prog_name="fpsset", standalone_mode=False)
    except click.Abort as error:
        raise Interrupted(STOPPED) from error
    except click.ClickException as error:
        raise InputError(error.format_message()) from error
