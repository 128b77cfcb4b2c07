"""fpsset train, eval, extract and prepare: run a config."""

from textwrap import shorten

import click

from fpsset.commands.configs import known_configs
from fpsset.commands.options import PATH_TEXT, json_option
from fpsset.config import DATASETS
from fpsset.errors import InputError

_RUNS = ("features", "ijbb", "ijbc", "published", "quickstart", "webface4m")
_SUMMARIES = {
    "train": "Train or fit a model as CONFIG says, and evaluate it.",
    "eval": "Evaluate a model as CONFIG says, without training.",
    "extract": "Turn images into a file of features.",
    "prepare": "Turn files into a dataset that runs read in their place.",
}
_EXAMPLES = {
    "train": "fpsset train quickstart\nfpsset train features --data.train=train.npz --data.eval=eval.npz",
    "eval": "fpsset eval quickstart\nfpsset eval ijbc --weights=FaceCoresetNet.ckpt --data.eval=IJBC",
    "extract": "fpsset extract --images=DIR --weights=weights/adaface --out=features.npz",
    "prepare": "fpsset prepare ijbc --source=IJBC",
}
_KINDS = {
    "train": "CONFIG is the path of a config file or one of these names, some with an :ARGUMENT:",
    "eval": "CONFIG is the path of a config file or one of these names:",
    "extract": "CONFIG is extract unless another is given.",
    "prepare": f"CONFIG is the path of a config file or one of {', '.join(DATASETS)}.",
}


def _help(mode: str) -> str:
    parts = [_SUMMARIES[mode], _KINDS[mode]]
    if mode in ("train", "eval"):
        parts.append(
            _block(f"{name:<12}{shorten(known_configs()[name], 62, placeholder=' ...')}" for name in _RUNS)
        )
    parts.append("--KEY=VALUE changes any field of the config; fpsset/config explains each.")
    return "\n\n".join([*parts, _block(_EXAMPLES[mode].splitlines())])


def _block(lines) -> str:
    return "\n".join(["\b", *(f"  {line}" for line in lines)])  # \b: click leaves the lines as they are


def _command(mode: str) -> click.Command:
    """The command that runs configs of one mode."""
    needed = mode != "extract"
    metavar = "CONFIG" if needed else "[CONFIG]"
    config = click.argument("config", metavar=metavar, required=needed, type=PATH_TEXT)
    options = [config, json_option]
    if mode in ("train", "eval"):
        options += [
            click.option(
                "--workdir", metavar="DIR", type=PATH_TEXT, help="Folder for results.  [default: runs/CONFIG]"
            ),
            click.option("--verbose", is_flag=True, help="Print every table, not only the main one."),
        ]

    @click.pass_context
    def run(context: click.Context, /, config: str | None, **options) -> None:
        _run(mode, config, context.args, **options)

    for option in reversed(options):
        run = option(run)
    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.command(mode, help=_help(mode), context_settings=settings)(run)


def _run(
    mode: str,
    config: str | None,
    fields: list[str],
    as_json: bool,
    workdir: str | None = None,
    verbose: bool = False,
) -> None:
    """Runs a config as `python -m fpsset.main` does, if it is of this mode."""
    from fpsset.commands.config_flags import parse
    from fpsset.commands.runs import run_asked

    if config is None or config.startswith("-"):  # left out, and this is the first of the fields
        config, fields = "extract" if mode == "extract" else "", [*([config] if config else []), *fields]
    if not config:
        raise InputError(f"CONFIG is missing, e.g. fpsset {mode} {_RUNS[-2]}")
    if mode == "prepare" and config in DATASETS:
        config = f"prepare:{config}"
    asked = parse(
        [
            "fpsset",
            f"--config={config}",
            *map(_as_flag, fields),
            *([] if workdir is None else [f"--workdir={workdir}"]),
        ]
    )
    if mode == "eval" and asked.config.mode == "train":
        asked.config.mode = "eval"
    if asked.config.mode != mode:
        kind = asked.config.mode
        fix = f"run fpsset {kind} {config}" if kind in _SUMMARIES else f"run one for fpsset {mode}"
        raise InputError(f"{config}: is a config whose mode is {kind!r}, not {mode!r}; {fix}")
    run_asked(asked._replace(verbose=verbose, as_json=as_json))


def _as_flag(field: str) -> str:
    """`--key=value` as `--config.key=value`, which is accepted too."""
    is_key = field.startswith("--") and not field.startswith("--config.")
    return f"--config.{field[2:]}" if is_key else field


CONFIGURED = tuple(map(_command, _SUMMARIES))
