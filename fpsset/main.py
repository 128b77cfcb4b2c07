"""python -m fpsset.main --config configs/NAME.py[:arg] --workdir DIR [--config.key=value ...]."""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from fpsset.errors import InputError, TrainingError

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run, e.g. configs/quickstart.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results, metrics and checkpoints go.")


def run(config, workdir: pathlib.Path) -> None:
    """Trains unless the mode is 'eval', then evaluates and prints the table.

    Args:
      config: as `fpsset.config.base_config` lists it.
      workdir: as the README describes it.

    Raises:
      InputError: bad configuration or data.
      TrainingError: the loss stopped being finite.
    """
    from fpsset.aggregator import load
    from fpsset.config import check_config
    from fpsset.data.sources import evaluation_table, training_table
    from fpsset.evaluation.protocols import evaluate, require_width, verification_protocol
    from fpsset.evaluation.report import write_report
    from fpsset.training.loop import train

    check_config(config)
    protocol = verification_protocol(evaluation_table(config.data, config.seed), config.data.pairs)
    if config.mode == "train":
        table = training_table(config.data, config.seed)
        require_width(protocol.name, protocol.dim, table.dim)
        train(config, workdir, table)
    results, curves = evaluate(
        load(config.weights or workdir),
        protocol,
        config.evaluation.fps_gamma,
        config.evaluation.resamples,
        config.evaluation.faces_per_batch,
    )
    print(write_report(workdir, results, curves, pathlib.Path(protocol.name).name))


def main(argv: list[str]) -> int:
    """Runs a command line; returns the exit code: 0 done, 1 training failed, 2 bad input, 130 stopped."""
    from fpsset.training.interrupts import Interrupted

    try:
        _parse(argv)
        run(_CONFIG.value, pathlib.Path(_WORKDIR.value))
    except InputError as error:
        return _fail(error, 2)
    except TrainingError as error:
        return _fail(error, 1)
    except Interrupted as error:
        return _fail(error, 130)
    return 0


def _parse(argv: list[str]) -> None:
    try:
        rest = flags.FLAGS(argv)[1:]
    except (AttributeError, KeyError) as error:  # a key that the config does not have
        raise InputError(f"no such config key: {error.args[0]}") from error
    except (flags.Error, OSError, TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    if rest:
        raise InputError(f"{rest[0]!r} is not an option; options look like --config.key=value")
    for name in ("config", "workdir"):
        if flags.FLAGS[name].value is None:
            raise InputError(
                f"--{name} is missing; try --config configs/quickstart.py --workdir runs/quickstart"
            )


def _fail(error: Exception, code: int) -> int:
    print("fpsset:", " ".join(str(error).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
