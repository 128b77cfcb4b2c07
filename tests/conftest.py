"""Settings for all tests: several CPU devices, no rank promotion, golden files if present."""

import gc
import os
import pathlib
import signal
import tempfile

from tests.compiling import FLAGS

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where the machine has other devices, too
# Shells have what runs in the background ignore SIGINT, and commands that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# On a busy machine devices may wait for each other longer than XLA's default timeout.
os.environ["XLA_FLAGS"] = f"{FLAGS} --xla_cpu_collective_call_terminate_timeout_seconds=600"

os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # lowering takes less time

# The processes that tests start inherit these, so that each program of theirs is compiled only once.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compilation_cache = tempfile.TemporaryDirectory(prefix="fpsset-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compilation_cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import pytest

from tests.quick import QUICK

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
_MAPS = pathlib.Path("/proc/self/maps")  # on Linux
_MANY_MAPS = 20_000


# Files of many seconds' work, which begin first, so that no worker is left alone with one of them at the end.
_LONG = (
    *("tests/runtime/test_hosts.py", "tests/training/test_training_from_images.py", "tests/test_main.py"),
    *("tests/models/test_set_models.py", "tests/weights/test_official.py", "tests/images/test_extract.py"),
    *("tests/test_notebooks.py", "tests/test_docs.py", "tests/training/test_fitting.py"),
)


def pytest_configure(config):
    """Prepares a process that runs tests; one that hands them out is kept from beginning with the largest."""
    if getattr(config.option, "numprocesses", None):
        config.option.loadscopereorder = False
    else:
        _set_up_libraries()


def _set_up_libraries() -> None:
    """Imports here take a second, for which the processes that run tests would wait."""
    import chex
    import jax
    from absl import flags
    from hypothesis import HealthCheck, settings

    # Programs of this process differ from test to test, and to keep them would take a fifth of all time.
    jax.config.update("jax_compilation_cache_dir", None)
    chex.set_n_cpu_devices(8)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    flags.FLAGS.mark_as_parsed()  # Grain reads flags

    slow = [HealthCheck.too_slow]
    settings.register_profile(
        "fpsset", deadline=None, max_examples=16, derandomize=True, suppress_health_check=slow
    )
    settings.load_profile("fpsset")


def pytest_collection_finish(session):
    """Has the garbage collector leave alone what stays."""
    from fpsset.commands.cli import collect_less_often

    gc.collect()
    collect_less_often()


def pytest_collection_modifyitems(items):
    """Sorts the long files first, and marks the tests that `-m quick` runs."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))
    for item in items:
        if item.nodeid.startswith(QUICK) and not any(
            map(item.get_closest_marker, ("slow", "fuzz", "kills", "chips"))
        ):
            item.add_marker("quick")


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Forgets compiled programs before their memory maps reach the 65,530 that Linux allows."""
    yield
    if _MAPS.is_file() and _MAPS.read_bytes().count(b"\n") > _MANY_MAPS:
        import jax

        jax.clear_caches()


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of golden values and real data beside the repository; tests that need it skip without it."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        reason = "no golden files beside the repository"
        if os.environ.get("FPSSET_REQUIRE_SHARED") == "1":
            pytest.fail(f"{reason}, and FPSSET_REQUIRE_SHARED=1")
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def aggregator():
    """An untrained model for 16-D embeddings that scales norms by 2 and weighs faces by quality."""
    import fpsset
    from fpsset.weights.cards import AggregatorCard
    from tests.sets import random_coreset_net

    params = random_coreset_net(fpsset.FaceCoresetNet(num_heads=2, quality=True), 16)
    return fpsset.Aggregator(params, AggregatorCard(3, 2, dim=16, norm_scale=2.0, quality=True))
