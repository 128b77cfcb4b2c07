"""The notebooks run from start to end, and are stored without outputs."""

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
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    drawn = [
        cell
        for cell in notebook.cells
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    assert len(drawn) == sum("plt.show()" in cell.source for cell in notebook.cells) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_outputs(path):
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    top, install, *rest = notebook.cells
    assert f"/blob/main/notebooks/{path.name})" in top.source and "colab-badge.svg" in top.source
    assert install.source.startswith('import sys\n\nif "google.colab" in sys.modules:\n')
    assert not any("pip install" in cell.source for cell in rest if cell.cell_type == "code")


def test_all_three_notebooks_exist():
    names = {"aggregate_your_embeddings", "coreset_visualisation", "train_your_own"}
    assert {path.stem for path in NOTEBOOKS} == names
