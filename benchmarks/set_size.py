"""Time, and memory beyond the input, for one set of 16 to 1,048,576 faces, in memory and in blocks of a file.

python benchmarks/set_size.py [--rounds 5] [--picture benchmarks/pictures/set_size.png] [--folder /tmp]

`aggregate` has the faces in memory; `aggregate_blocks` reads blocks of 8,192 from a memory-mapped array file.
Every size runs in its own process, after a set of 16 faces has loaded and compiled what all sizes need.
Memory is the increase to the peak of the process's anonymous memory (RssAnon, sampled every millisecond)
during the first call, including compilation; pages of the file do not count. Time is the best of the calls
after that, because other programs may be running. The slope is the least-squares slope of log time over log
size, for sizes from 16,384 on, where the constant cost of a set no longer matters.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

DIM, BLOCK = 512, 8192
SIZES = [4**power for power in range(2, 11)]
LARGEST = {"aggregate": 4**9, "aggregate_blocks": 4**10}  # what fits into 24 GiB together with other programs
FIT_FROM = 16_384
STYLES = {"aggregate": ("#56b4e9", "--", "s"), "aggregate_blocks": ("#d55e00", "-", "o")}


def anonymous_memory() -> int:
    """Anonymous memory of this process, in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon")


def peak_memory(function) -> int:
    """The increase to the peak of this process's anonymous memory during a call, in bytes."""
    before, most, done = anonymous_memory(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            most[0] = max(most[0], anonymous_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    function()
    done.set()
    thread.join()
    return max(0, max(most[0], anonymous_memory()) - before)


def measure(way: str, size: int, path: str, rounds: int) -> None:
    """Prints the seconds and bytes of one size as JSON."""
    import jax

    import fpsset
    from fpsset.weights.cards import AggregatorCard

    net = fpsset.FaceCoresetNet()
    faces = np.load(path, mmap_mode="r")
    norms = np.random.default_rng(0).uniform(5, 30, len(faces)).astype(np.float32)
    first = fpsset.FaceSet(np.asarray(faces[:16]), norms[:16], np.ones(16, bool))
    model = fpsset.Aggregator(
        jax.jit(net.init)(jax.random.key(0), first)["params"], AggregatorCard(3, 8, DIM, 1.0)
    )

    def call(count: int):
        if way == "aggregate":
            ids = np.zeros(count, int)
            return lambda: model.aggregate(in_memory[:count], norms[:count], ids)
        parts = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
        return lambda: model.aggregate_blocks([(faces[part], norms[part]) for part in parts])

    in_memory = np.array(faces[:size]) if way == "aggregate" else None
    call(16)()
    timed = call(size)
    peak, times = peak_memory(timed), []
    for _ in range(rounds if size >= FIT_FROM else 4 * rounds):
        start = time.perf_counter()
        timed()
        times.append(time.perf_counter() - start)
    print(json.dumps({"seconds": min(times), "bytes": peak}))


def write_faces(path: pathlib.Path, count: int) -> None:
    """Writes an array file of random faces."""
    rng = np.random.default_rng(0)
    file = np.lib.format.open_memmap(path, "w+", np.float32, (count, DIM))
    for start in range(0, count, BLOCK):
        part = rng.standard_normal((min(BLOCK, count - start), DIM), np.float32)
        file[start : start + BLOCK] = part / np.linalg.norm(part, axis=1, keepdims=True)
    file.flush()


def draw(path: pathlib.Path, found: dict) -> None:
    """Draws time and memory against the size of the set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.9), dpi=170, layout="constrained")
    panels = figure.subplots(1, 2)
    for way, by_size in found.items():
        color, line, marker = STYLES[way]
        sizes = list(by_size)
        for axes, column, unit in zip(panels, ("seconds", "bytes"), (1, 2**20), strict=True):
            values = [by_size[size][column] / unit or np.nan for size in sizes]
            axes.plot(sizes, values, color=color, linestyle=line, marker=marker, markersize=4, label=way)
    sizes = np.array([FIT_FROM, SIZES[-1]])
    largest = found["aggregate_blocks"]
    along = largest[max(largest)]["seconds"] * sizes / max(largest) / 2.5
    panels[0].plot(sizes, along, color="#7f7f7f", linestyle=":", label="slope 1")
    panels[1].axhline(1024, color="#7f7f7f", linestyle=":")
    panels[1].annotate("1 GiB", (SIZES[0], 1024), (0, 4), textcoords="offset points", color="#7f7f7f")
    for axes, label in zip(panels, ("seconds", "MiB beyond the input"), strict=True):
        axes.set_xscale("log", base=4)
        axes.set_yscale("log")
        axes.set_xticks(SIZES[::2], [f"{size:,}" for size in SIZES[::2]])
        axes.minorticks_off()
        axes.set_xlabel("faces in the set")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(loc="upper left", frameon=False)
    figure.savefig(path)


def main() -> None:
    """Prints the table and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--picture", type=pathlib.Path)
    parser.add_argument("--folder", help="where to put the array file of 2.1 GB, removed at the end")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "SIZE", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return measure(args.one[0], int(args.one[1]), args.one[2], args.rounds)
    from timing import milliseconds, show

    from fpsset.runtime.progress import StepProgress

    cases = [(way, size) for size in SIZES for way in LARGEST if size <= LARGEST[way]]
    found = {way: {} for way in LARGEST}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = pathlib.Path(folder) / "faces.npy"
        write_faces(path, SIZES[-1])
        with StepProgress(len(cases), 0, 1, "sizes", "sizes") as progress:
            for way, size in cases:
                command = [sys.executable, __file__, "--one", way, str(size), str(path)]
                command += ["--rounds", str(args.rounds)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[way][size] = json.loads(out.splitlines()[-1])
                progress.advance(f"{way} of {size:,}: {found[way][size]['seconds']:.3g} s")
    rows = []
    for size in SIZES:
        row = [f"{size:,}"]
        for way in LARGEST:
            one = found[way].get(size)
            row += [milliseconds(one["seconds"]), f"{one['bytes'] / 2**20:,.0f}"] if one else ["", ""]
        rows.append(row)
    notes = []
    for way, by_size in found.items():
        fitted = [size for size in by_size if size >= FIT_FROM]
        seconds = [by_size[size]["seconds"] for size in fitted]
        slope = np.polyfit(np.log(fitted), np.log(seconds), 1)[0]
        notes.append(f"{way}: slope of log time over log size {slope:.3f} from {FIT_FROM:,} faces on")
    show("One set", ["faces", "aggregate", "MiB", "aggregate_blocks", "MiB"], rows, notes)
    if args.picture:
        draw(args.picture, found)


if __name__ == "__main__":
    main()
