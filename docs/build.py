"""Builds the site: the pages in docs/ and one page per module. python docs/build.py [OUT]."""

import pathlib
import pkgutil
import re
import sys
import types
import warnings

import jinja2
import pdoc
import pdoc.render

import fpsset

HERE = pathlib.Path(__file__).parent


def main(out: pathlib.Path) -> None:
    """Writes the site into the folder `out`."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".* Import of ArrayTree failed")  # a name inside optax's types
    pdoc.render.configure(docformat="google", footer_text=f"fpsset {fpsset.__version__}")
    pdoc.render.env.filters["to_markdown"] = _to_markdown(pdoc.render.env.filters["to_markdown"])
    names = ["fpsset", *(m.name for m in pkgutil.walk_packages(fpsset.__path__, "fpsset."))]
    for name in fpsset.__all__:
        getattr(fpsset, name)  # pdoc documents what a module holds, and these are imported when first used
    modules = {name: pdoc.doc.Module.from_name(name) for name in names if not _needs_extra(name)}
    pages = {path.stem: _page(path) for path in sorted(HERE.glob("*.md"))}
    everything = {**pages, **modules}
    for name, module in everything.items():
        path = out / f"{name.replace('.', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pdoc.render.html_module(module, everything), encoding="utf-8")
    (out / "search.js").write_text(pdoc.render.search_index(modules), encoding="utf-8")
    print(f"{out}: {len(pages)} pages, {len(modules)} modules")


def _page(path: pathlib.Path) -> pdoc.doc.Module:
    """A Markdown page as a module without members: the page is its docstring."""
    text = re.sub(r"\]\((\w+)\.md\)", r"](\1.html)", path.read_text())
    module = types.ModuleType(path.stem, text)
    module.__all__ = []
    return pdoc.doc.Module(module)


def _needs_extra(name: str) -> bool:
    """Whether importing a module needs an optional dependency: the dataset builders import TFDS."""
    return name.startswith("fpsset.datasets.builders")


def _to_markdown(convert):
    """Wraps pdoc's filter: escapes the star in shapes like [*B, N], which is not emphasis."""

    @jinja2.pass_context
    def filtered(context, docstring: str) -> str:
        return convert(context, re.sub(r"\[\*(?=\w)", r"[\\*", docstring))

    return filtered


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs"))
