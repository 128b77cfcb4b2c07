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
    "models": {"ops", "models", "face_set"},
    "data": {"data", "face_set", "errors", "files"},
    "evaluation": {"ops", "models", "data", "face_set", "errors", "files", "evaluation", "aggregator"},
    "training": {
        *("ops", "models", "data", "face_set", "errors", "files"),
        *("evaluation", "progress", "training"),
    },
    "interop": {"ops", "models", "interop", "errors", "files"},
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
    for room, allowed in MAY_IMPORT.items():
        files = list((PACKAGE / room).glob("*.py"))
        assert files
        for path in files:
            assert imported_rooms(path) <= allowed, path


def test_importing_the_package_leaves_the_heavy_libraries_alone():
    code = (
        "import sys, fpsset; heavy = ('orbax', 'grain', 'matplotlib', 'pyarrow', 'torch'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_public_names():
    for name in fpsset.__all__:
        assert getattr(fpsset, name).__doc__
