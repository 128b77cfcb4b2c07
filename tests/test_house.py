"""The layout of the package: rooms import in one direction only, and `import fpsset` stays light."""

import ast
import pathlib
import subprocess
import sys

import fpsset
from tests.quick import QUICK

PACKAGE = pathlib.Path(fpsset.__file__).parent
# Which earlier rooms each room may import. Every room may also import itself and the rooms in SHARED.
MAY_IMPORT = {
    "ops": "",
    "models": "ops",
    "parallel": "ops models",
    "runtime": "parallel",
    "weights": "models runtime",
    "data": "runtime",
    "images": "ops models parallel runtime weights data",
    "datasets": "runtime data images",
    "inference": "ops models parallel runtime weights data",
    "streaming": "ops models runtime data inference",
    "evaluation": "ops models runtime data inference",
    "people": "ops runtime data inference evaluation",
    "reports": "runtime data inference evaluation",
    "training": "ops models parallel runtime weights data images datasets inference evaluation",
    "config": "ops models images evaluation",
    "commands": "models runtime weights data images datasets inference evaluation people reports training "
    "config",
    "main": "runtime config commands",
}
SHARED = {"errors", "face_set"}


def imported_rooms(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("fpsset.")}


def test_the_top_level_holds_exactly_these_rooms_and_files():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.stem[0] not in "_." and path.suffix != ".typed"}
    assert rooms == set(MAY_IMPORT) | SHARED
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert files == {"__init__.py", "errors.py", "face_set.py", "main.py"}


def test_dependencies_point_one_way():
    """Rooms import only from the earlier rooms listed for them, so there are no import cycles."""
    earlier = set()
    for room, listed in MAY_IMPORT.items():
        allowed = set(listed.split())
        assert allowed <= earlier
        earlier.add(room)
        for path in [*(PACKAGE / room).rglob("*.py"), PACKAGE / f"{room}.py"]:
            if path.is_file():
                assert imported_rooms(path) <= allowed | SHARED | {room}, path
    assert imported_rooms(PACKAGE / "face_set.py") <= {"errors"}
    assert not imported_rooms(PACKAGE / "errors.py")


def test_the_quick_tests_are_there_and_visit_every_room():
    tests = PACKAGE.parent / "tests"
    for beginning in QUICK:
        file, _, test = beginning.partition("::")
        path = tests.parent / file
        assert path.exists() and f"def {test}" in (path.read_text() if test else "def "), beginning
    assert {room for room in MAY_IMPORT if (tests / room).is_dir()} <= {one.split("/")[1] for one in QUICK}


def test_importing_the_package_does_not_import_heavy_libraries():
    code = (
        "import sys, fpsset; heavy = ('orbax', 'grain', 'matplotlib', 'jinja2', 'pyarrow', 'torch', 'PIL', "
        "'skimage', 'click', 'safetensors', 'onnxruntime', 'tensorflow_datasets'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_public_names_have_docstrings():
    for name in fpsset.__all__:
        assert getattr(fpsset, name).__doc__
