"""The notebooks run from start to end, and are stored with their outputs."""

import os
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Fewer people, narrower embeddings, and sets that are all padded to one size.
SMALLER = {"make_synthetic(2000,": "make_synthetic(100,", "make_synthetic(1000,": "make_synthetic(100,"}
SMALLER |= {"dim=128)": "dim=32, stills=(3, 4), clips=(0, 1), frames=(3, 4))"}


def read(path: pathlib.Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Runs all notebooks in one kernel, since to start one takes longer than to run most of them."""
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=300)
    # Without MPLBACKEND, for the kernel's default backend shows figures.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    with client.setup_kernel(env=environment, cwd=tmp_path_factory.mktemp("notebooks")):
        yield client


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, client):
    notebook = read(path)
    for cell in notebook.cells:
        for large, small in SMALLER.items():
            cell.source = cell.source.replace(large, small)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = f"%reset -f\n{first.source}"  # forgets the names of the notebook before
    client.nb = notebook
    client.execute(cleanup_kc=False)
    drawn = [
        cell
        for cell in notebook.cells
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    stored = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert len(drawn) == sum("image/png" in str(cell.outputs) for cell in stored) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_with_its_outputs(path):
    """Pictures and text of a whole run in order, without warnings and names of folders."""
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    for output in (output for cell in code for output in cell.outputs):
        assert output.get("name") != "stderr" and output.output_type != "error"
        assert "/home/" not in str(output) and "/tmp/" not in str(output)
    assert sum("image/png" in str(cell.outputs) for cell in code) >= 2
    assert path.stat().st_size < 500_000 and "OWNER" not in path.read_text()
    top, install, *rest = notebook.cells
    assert top.source.startswith("# ") and install.source.startswith(
        'import sys\n\nif "google.colab" in sys.modules:\n'
    )
    assert not any("pip install" in cell.source for cell in rest if cell.cell_type == "code")


def test_all_three_notebooks_exist():
    names = {"aggregate_your_embeddings", "coreset_visualisation", "train_your_own"}
    assert {path.stem for path in NOTEBOOKS} == names
