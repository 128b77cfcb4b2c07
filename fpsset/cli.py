"""fpsset: the command line."""

import pathlib
import sys

import click

from fpsset.commands.aggregate import aggregate
from fpsset.commands.calibrate import calibrate
from fpsset.commands.doctor import doctor
from fpsset.commands.report import report
from fpsset.commands.select import select
from fpsset.commands.verify import verify
from fpsset.errors import InputError
from fpsset.exits import exit_code


@click.group(invoke_without_command=True)
@click.pass_context
def fpsset(context: click.Context) -> None:
    """One descriptor from a set of faces of one person.

    Training, evaluation and extraction are runs with a config: python -m fpsset.main.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@fpsset.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=pathlib.Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=pathlib.Path))
@click.option("--color-order", type=click.Choice(["bgr", "rgb"]), help="Where the file does not tell it.")
def convert(source: pathlib.Path, target: pathlib.Path, color_order: str | None) -> None:
    """Turn a published checkpoint into one of this package.

    IN is a .ckpt, .pth, .pt or .safetensors file of FaceCoresetNet, AdaFace, CVLface or InsightFace. OUT
    is a folder: an Orbax checkpoint, and card.json, which says what it holds. Nothing in IN is run.
    """
    from fpsset.interop.official import load_official
    from fpsset.weights import save_weights

    if target.resolve() in (source.resolve(), *source.resolve().parents):
        raise InputError(f"{target}: holds IN; give another OUT")
    weights = load_official(source, color_order)
    save_weights(target, weights)
    card = weights.card
    click.echo(f"{target}: {', '.join(sorted(weights))} of {card.family}")
    if card.backbone:
        click.echo(f"backbone: {card.backbone.architecture}, {card.backbone.color_order} images")
    if card.aggregator:
        click.echo(f"aggregator: {card.aggregator.coreset_size} picks, {card.aggregator.dim} wide")
    click.echo(f"licence: {card.licence}")
    if card.ignored:
        click.echo(f"ignored: {'; '.join(card.ignored)}")


@fpsset.command()
@click.argument("weights", type=click.Path(path_type=pathlib.Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=pathlib.Path, dir_okay=False))
@click.option("--platforms", default="cpu,cuda,tpu", show_default=True, help="To lower for.")
def export(weights: pathlib.Path, target: pathlib.Path, platforms: str) -> None:
    """Write an aggregator as one StableHLO file, for any number and size of sets.

    WEIGHTS is a workdir, a converted folder or a published checkpoint. OUT runs with JAX alone:
    jax.export.deserialize(bytes).call(embeddings, norms, mask).
    """
    from fpsset.interop.export import export_aggregator
    from fpsset.loading import load

    if target.resolve() == weights.resolve():
        raise InputError(f"{target}: is WEIGHTS; give another OUT")
    model = load(weights)
    export_aggregator(
        target, model.model.apply, model.variables, model.dim, model.norm_scale, platforms.split(",")
    )
    click.echo(f"{target}: {target.stat().st_size / 1e6:.1f} MB for {platforms}")


@fpsset.command("simulate-ijb")
@click.argument("target", metavar="OUT", type=click.Path(path_type=pathlib.Path))
@click.option("--like", type=click.Choice(["ijbb", "ijbc"]), default="ijbc", show_default=True)
@click.option("--scale", default=1.0, show_default=True, help="Of all counts.")
@click.option("--dim", default=512, show_default=True, help="Width of the embeddings.")
@click.option("--seed", default=0, show_default=True)
def simulate_ijb(target: pathlib.Path, like: str, scale: float, dim: int, seed: int) -> None:
    """Write synthetic faces in the layout of IJB-B or IJB-C, at the true counts.

    OUT gets meta/ with the official lists, and the features as the official pickle: to try every path and
    its cost without the data.
    """
    from fpsset.data.simulated_ijb import simulate_ijb

    counts = simulate_ijb(target, like, scale, seed, dim)
    click.echo(f"{target}: " + ", ".join(f"{count} {name}" for name, count in counts._asdict().items()))


for command in (aggregate, select, report, calibrate, verify, doctor):
    fpsset.add_command(command)


def main(argv: list[str] | None = None) -> int:
    """Runs a command line; returns the exit code."""

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
