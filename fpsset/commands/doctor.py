"""fpsset doctor: reports versions, devices, programs, memory, data, a kernel and a backbone's colours."""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import textwrap

import click

from fpsset.commands.options import PATH, PATH_TEXT
from fpsset.errors import InputError
from fpsset.runtime.device_errors import within_memory
from fpsset.runtime.escapes import show

_CORE = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# Distributions of each extra, except those that are installed on some platforms only.
_EXTRAS = {
    "images": ("pillow", "scikit-image"),
    "onnx": ("onnxruntime",),
    "safetensors": ("safetensors",),
    "parquet": ("pyarrow",),
    "datasets": ("tensorflow-datasets", "array_record"),
    "export": ("flatbuffers",),
    "tensorboard": ("tensorboardX",),
}
_WIDTH = 80


@click.command()
@click.option(
    "--data",
    "places",
    multiple=True,
    type=PATH,
    metavar="DIR",
    help="Folder to search for data; may be repeated.",
)
@click.option(
    "--weights",
    type=PATH_TEXT,
    default="",
    metavar="FILE",
    help="Backbone whose colour order to check, on --images.",
)
@click.option(
    "--images",
    type=PATH_TEXT,
    default="",
    metavar="DIR",
    help="Folder with one folder per person, for that check.",
)
@click.option(
    "--color-order", type=click.Choice(["bgr", "rgb"]), help="Needed only if the weights do not determine it."
)
@click.option("--mean", type=float, help="Mean of the pixels, for .onnx weights.")
@click.option("--std", type=float, help="Standard deviation of the pixels, for .onnx weights.")
@click.option("--dim", default=512, show_default=True, help="Width of the embeddings.")
@click.option("--people", default=10_000, show_default=True, help="People to train on.")
@click.option("--batch-size", default=40, show_default=True, help="Templates per training step.")
@click.option("--set-size", default=20, show_default=True, help="Faces per template.")
@click.option("--faces", default=16_384, show_default=True, help="Faces aggregated at once.")
@click.option("--coreset-size", default=3, show_default=True, help="Faces picked per template.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def doctor(places, weights, images, color_order, mean, std, as_json, **sizes) -> None:
    """Report what is installed, how much memory is needed, and which data is found.

    Memory is the compiler's estimate for a training step and an aggregation of the given sizes; neither is
    run. On a TPU the kernel for small sets is run, and compared with XLA. Data is searched for in --data or,
    without it, in the current folder and its folders data, datasets, features, weights and runs. With
    --weights and --images the colour order of a backbone is checked.
    """
    _check(places, weights, images, sizes)
    # First, as this may raise.
    order = _color_order(weights, images, color_order, mean, std) if weights else None
    report = {
        "versions": _versions(),
        "devices": _devices(),
        "programs": _programs(),
        "kernel": _kernel(),
        "memory": _memory(sizes),
        "data": _data(places),
        "color_order": order,
    }
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show(_page(report))


def _check(places, weights: str, images: str, sizes: dict[str, int]) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
    if sizes["dim"] % 2:
        raise InputError(f"--dim is {sizes['dim']}; it must be even")
    if bool(weights) != bool(images):
        raise InputError(
            "--weights and --images must be given together: the colour order is checked on images"
        )
    for place in places:
        if not place.is_dir():
            raise InputError(f"{place}: no such folder; give an existing one as --data")


def _versions() -> dict:
    def installed(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {
        "python": platform.python_version(),
        "fpsset": importlib.import_module("fpsset").__version__,
        **{name: installed(name) for name in _CORE},
        "extras": {extra: {name: installed(name) for name in names} for extra, names in _EXTRAS.items()},
    }


def _devices() -> list[dict]:
    import jax

    from fpsset.commands.footprint import device_memory

    counted = {}
    for device in jax.devices():
        key = device.platform, device.device_kind, device_memory(device)
        counted[key] = counted.get(key, 0) + 1
    found = [
        {"platform": platform, "kind": kind, "count": count, "memory_bytes": memory}
        for (platform, kind, memory), count in counted.items()
    ]
    return [row | {"cores": os.cpu_count()} if row["platform"] == "cpu" else row for row in found]


def _programs() -> dict:
    from fpsset.runtime.programs import keep_programs, kept_programs

    keep_programs()
    return kept_programs()._asdict()


def _kernel() -> dict | None:
    from fpsset.inference.kernels import check_kernel, has_kernels

    return check_kernel()._asdict() if has_kernels() else None


def _memory(sizes: dict[str, int]) -> dict:
    from fpsset.commands.footprint import Sizes, footprints

    with within_memory("--batch-size, --people or --faces"):
        needs = footprints(Sizes(**sizes))
    return {"sizes": sizes} | {name: f._asdict() | {"total": f.total} for name, f in needs.items()}


def _data(places: tuple[pathlib.Path, ...]) -> dict:
    from fpsset.commands.found import KINDS, PLACES, find_data

    found = find_data(places or tuple(map(pathlib.Path, PLACES)))
    kinds = {item.kind for item in found}
    return {
        "found": [item._asdict() for item in found],
        "none_of": {kind: source for kind, source in KINDS.items() if kind not in kinds},
    }


def _color_order(weights: str, images: str, color_order: str | None, mean, std) -> dict:
    from fpsset.config import extraction_config
    from fpsset.images.aligned_faces import read_face, require_libraries
    from fpsset.images.color_order import diagnose
    from fpsset.images.listing import list_images
    from fpsset.images.recognisers import load_recogniser

    config = extraction_config()
    config.weights, config.color_order, config.mean, config.std = weights, color_order or "", mean, std
    listed = list_images(pathlib.Path(images))
    require_libraries(aligns=listed.landmarks is not None)
    recogniser = load_recogniser(config)

    def read(row: int):
        marks = None if listed.landmarks is None else listed.landmarks[row]
        return read_face(listed.root / listed.paths[row], marks)

    found = diagnose(listed.subject, read, recogniser)
    order = {"color_order": recogniser.card.color_order}
    if found is None:
        return order | {"looks_wrong": None}
    return order | {"looks_wrong": found.looks_wrong, **found._asdict()}


def _page(report: dict) -> str:
    """The report as text, 80 columns wide."""
    lines = []

    def section(title: str, *rows: str) -> None:
        lines.append(title)
        for row in rows:
            lines.extend(
                textwrap.wrap(
                    row,
                    _WIDTH,
                    initial_indent="  ",
                    subsequent_indent="    ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )

    versions = dict(report["versions"])
    extras = versions.pop("extras")
    section("versions", ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items()))
    section("extras", *(_extra_line(extra, held) for extra, held in extras.items()))
    section("devices", *map(_device_line, report["devices"]))
    section("compiled programs", _programs_line(report["programs"]))
    section("kernel for small sets", _kernel_line(report["kernel"]))
    memory = dict(report["memory"])
    sizes = memory.pop("sizes")
    section(
        "memory, as the compiler estimates it",
        *(
            f"{name}: {_size(need['total'])} ({_size(need['state'])} of state, "
            f"{_size(need['inputs'])} per batch, {_size(need['working'])} of working memory)"
            for name, need in memory.items()
        ),
        "at " + " ".join(f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()),
    )
    data = report["data"]
    section(
        "data",
        *(
            f"{item['kind']}: {item['path']}" + (f" - not usable: {item['lacks']}" if item["lacks"] else "")
            for item in data["found"]
        ),
        *(f"no {kind}: {source}" for kind, source in data["none_of"].items()),
    )
    section("colour order", _color_line(report["color_order"]))
    return "\n".join(lines)


def _extra_line(extra: str, held: dict[str, str | None]) -> str:
    missing = [name for name, version in held.items() if version is None]
    if missing:
        return f"{extra}: no {', '.join(missing)}; pip install 'fpsset[{extra}]'"
    return f"{extra}: " + ", ".join(f"{name} {version}" for name, version in held.items())


def _device_line(row: dict) -> str:
    memory = _size(row["memory_bytes"]) if row["memory_bytes"] else "memory unknown"
    cores = f", {row['cores']} cores" if "cores" in row else ""
    return f"{row['count']} x {row['platform']} ({row['kind']}), {memory}{cores}"


def _programs_line(kept: dict) -> str:
    if kept["folder"] is None:
        return "not kept: set JAX_COMPILATION_CACHE_DIR to a folder, or config.compilation_cache"
    if kept["count"] is None:
        return f"kept in {kept['folder']}"
    counted = f"{kept['count']} programs, {_size(kept['size_bytes'])}"
    return f"{counted} in {kept['folder']}" + ("" if kept["writable"] else ", which cannot be written to")


def _kernel_line(found: dict | None) -> str:
    if found is None:
        return "not used on these devices: XLA computes all sets"
    apart = f"descriptors {found['largest_difference']:.0e} apart"
    if found["agrees"]:
        return f"the picks of XLA, {apart}"
    what = f"{apart} from XLA's" if found["same_picks"] else f"other picks than XLA, {apart}"
    return f"WRONG: {what}; set FPSSET_KERNELS=0, and report this"


def _color_line(found: dict | None) -> str:
    if found is None:
        return "not checked: give --weights and --images"
    if found["looks_wrong"] is None:
        return "not checked: needs two people with two images each"
    verdict = "looks wrong" if found["looks_wrong"] else "looks right"
    return f"{found['color_order']} {verdict} ({found['images']} images of {found['people']} people)"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
