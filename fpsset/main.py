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
      Interrupted: training was asked to stop.
    """
    from fpsset.config import check_config
    from fpsset.data.sources import evaluation_table, training_table
    from fpsset.evaluation.protocols import evaluate, require_model, require_width, verification_protocol
    from fpsset.evaluation.report import write_report
    from fpsset.loading import load
    from fpsset.training.loop import train

    check_config(config)
    protocol = verification_protocol(evaluation_table(config.data, config.seed), config.data.pairs)
    if config.mode == "train":
        table = training_table(config.data, config.seed)
        require_width(protocol, table.dim)
        train(config, workdir, table)
    aggregator = load(config.weights or workdir)
    require_model(aggregator, config.model)
    results, curves = evaluate(
        aggregator,
        protocol,
        config.evaluation.fps_gamma,
        config.evaluation.resamples,
        config.evaluation.faces_per_batch,
    )
    title = f"{pathlib.Path(protocol.name).name}; fpsset is {aggregator.name}"
    print(write_report(workdir, results, curves, title))


def main(argv: list[str]) -> int:
    """Runs a command line; returns the exit code: 0 done, 1 training failed, 2 bad input, 130 stopped."""
    from fpsset.training.interrupts import Interrupted, sigterm_as_interrupt

    try:
        with sigterm_as_interrupt():
            if _parse(argv):
                run(_CONFIG.value, pathlib.Path(_WORKDIR.value))
    except InputError as error:
        return _fail(error, 2)
    except OSError as error:  # a full disk, a folder that cannot be written to; it names the path
        return _fail(error, 2)
    except TrainingError as error:
        return _fail(error, 1)
    except Interrupted as error:
        return _fail(error, 130)
    except KeyboardInterrupt:
        return _fail("stopped; the same command goes on", 130)
    return 0


def _parse(argv: list[str]) -> bool:
    """Reads the flags; False when only help was asked for."""
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(f"{__doc__}\n\nEvery field of a config is explained in fpsset/config.py.")
        return False
    try:
        rest = flags.FLAGS(argv)[1:]
        if _CONFIG.value is not None:
            _ = _CONFIG.value.mode  # a file that cannot be loaded says so only when it is used
    except (AttributeError, KeyError) as error:  # a key that the config does not have
        raise InputError(f"no such config key: {error.args[0]}") from error
    except (flags.Error, ImportError, NameError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"{error}") from error
    if rest:
        raise InputError(f"{rest[0]!r} is not an option; options look like --config.key=value")
    for name in ("config", "workdir"):
        if not flags.FLAGS[name].value:
            raise InputError(
                f"--{name} is missing; e.g. --config configs/quickstart.py --workdir runs/quickstart"
            )
    return True


def _fail(error: Exception | str, code: int) -> int:
    print("fpsset:", " ".join(str(error).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
