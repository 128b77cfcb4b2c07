"""The notebooks run from start to end, and are stored with their outputs."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: pathlib.Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's default backend shows figures
    notebook = read(path)
    for cell in notebook.cells:  # fewer people are fitted and drawn sooner
        cell.source = cell.source.replace("make_synthetic(2000,", "make_synthetic(400,")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
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
