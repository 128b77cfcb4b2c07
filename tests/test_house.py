"""The house: dependencies point one way, and importing the package stays light."""

import ast
import pathlib
import subprocess
import sys

import fpsset

PACKAGE = pathlib.Path(fpsset.__file__).parent
# What each room may import of the package, itself included.
MAY_IMPORT = {
    "ops": {"ops"},
    "models": {"ops", "models", "face_set", "errors"},
    "data": {"data", "face_set", "errors", "files", "progress", "safe_pickle"},
    "safe_pickle": set(),
    "face_set": set(),
    "batching": {"errors"},
    "files": set(),
    "errors": set(),
    "progress": set(),
    "pages": {"files"},
    "parallel": {"ops", "models", "errors", "face_set", "interrupts", "progress", "parallel"},
    "descriptors": {"models", "batching", "face_set", "parallel", "progress"},
    "blocks": {"ops", "models", "data", "face_set", "errors"},
    "cover": set(),
    "uniform_sample": set(),
    "running_picks": {"cover"},
    "streaming": {
        *("models", "data", "face_set", "errors", "files", "aggregator", "blocks"),
        *("cover", "running_picks", "uniform_sample"),
    },
    "embedding": {"models", "errors"},
    "weights": {"errors", "files"},
    "explanation": {"ops", "batching", "face_set"},
    "aggregator": {"models", "data", "face_set", "errors", "descriptors", "weights", "blocks", "explanation"},
    "evaluation": {
        "models",
        "data",
        "face_set",
        "errors",
        "files",
        "pages",
        "descriptors",
        "aggregator",
        "progress",
        "evaluation",
    },
    "training": {
        *("ops", "models", "data", "face_set", "errors", "files", "descriptors"),
        *("embedding", "evaluation", "progress", "interrupts", "weights", "parallel", "training"),
    },
    "interop": {"models", "errors", "face_set", "files", "safe_pickle", "weights", "interop"},
    "loading": {
        *("models", "data", "aggregator", "training", "interop", "parallel"),
        *("extraction", "weights", "errors", "files"),
    },
    "extraction": {
        *("models", "data", "embedding", "errors", "files", "interop"),
        *("progress", "weights", "extraction"),
    },
    "config": {"models", "data", "errors"},
    "interrupts": set(),
    "exits": {"errors", "interrupts"},
    "advice": {"explanation"},
    "sheets": {"advice", "errors", "explanation", "files", "pages", "sheets"},
    "commands": {
        *("advice", "aggregator", "commands", "config", "data", "descriptors", "errors", "evaluation"),
        *("extraction", "face_set", "files", "interop", "loading", "models", "progress", "sheets"),
        *("training", "weights"),
    },
    "cli": {"commands", "errors", "exits"},
    "main": {
        *("errors", "exits", "config", "data", "evaluation", "extraction"),
        *("training", "loading", "parallel"),
    },
}


def imported_rooms(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("fpsset.")}


def test_dependencies_point_one_way():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.stem[0] not in "_."} - {"templates"}
    assert rooms == set(MAY_IMPORT)
    for room, allowed in MAY_IMPORT.items():
        for path in [*(PACKAGE / room).rglob("*.py"), PACKAGE / f"{room}.py"]:
            if path.is_file():
                assert imported_rooms(path) <= allowed, path


def test_there_is_no_circle():
    """Rooms can be put in an order in which each imports earlier ones alone."""
    left = {room: allowed - {room} for room, allowed in MAY_IMPORT.items()}
    while left:
        ready = {room for room, needs in left.items() if not needs & set(left)}
        assert ready, left
        left = {room: needs for room, needs in left.items() if room not in ready}


def test_importing_the_package_leaves_the_heavy_libraries_alone():
    code = (
        "import sys, fpsset; heavy = ('orbax', 'grain', 'matplotlib', 'jinja2', 'pyarrow', 'torch', 'PIL', "
        "'skimage', 'click', 'safetensors', 'onnxruntime', 'tensorflow_datasets'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_public_names():
    for name in fpsset.__all__:
        assert getattr(fpsset, name).__doc__
