"""Compares streams with the batch: descriptors, verification, radius of the cover, faces per second.

python -m fpsset.main --config configs/quickstart.py --config.data.dim=512 --config.steps=1500 \\
    --workdir runs/streams
python benchmarks/streams.py --model runs/streams [--features FILE.npz --features-model runs/mine]

Uses simulated video (`video.py`), two streams per person, in batches of 64; `merged` summarises two halves
separately and merges them. Cosines are to the descriptor of `aggregate`. TAR at FAR 1e-3 compares the
streams' descriptors with each other, which takes 24 people, and with single frames of the same and of other
people. `radius` is the largest distance of a face to its nearest representative. It is divided by a lower
bound on the radius of any M representatives, and by the radius of M faces from farthest-point sampling of the
whole stream. With --features, the templates of a file are streamed too, by a model of its features.
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
from timing import show
from video import draw_video, random_directions

import fpsset
from fpsset.data.feature_table import templates
from fpsset.data.files import read_features
from fpsset.evaluation.verification import all_pairs, operating_points
from fpsset.ops.metric import cosines_on_host
from fpsset.runtime.progress import StepProgress

BATCH, STILLS, FAR = 64, 20, 1e-3
COVERED = 2  # streams whose covers are compared with farthest-point sampling


class Run(NamedTuple):
    """A way to summarise streams, and its results."""

    name: str
    size: int
    growth: float
    merged: bool
    streams: int  # number of streams to run it on
    vectors: list  # descriptors
    cosines: list  # to the batch's descriptor
    rates: list  # faces per second
    held: list  # representatives
    ratios: list  # radius over the lower bound
    covers: list  # radius over that of farthest-point sampling


def runs(streams: int) -> list[Run]:
    """The runs to compare: the default on all streams, the others on some."""
    part = min(streams, 8)
    kinds = [
        ("default", 256, 1.1, False, streams),
        ("merged", 256, 1.1, True, streams),
        ("growth 2", 256, 2.0, False, part),
        ("M 64", 64, 1.1, False, part),
    ]
    return [Run(*kind, *([] for _ in range(6))) for kind in kinds]


def summarise(model, faces, norms, size: int, growth: float):
    """Streams the faces; returns (the streaming aggregator, faces per second)."""
    stream, start = fpsset.StreamingAggregator(model, size, growth), time.perf_counter()
    for row in range(0, len(norms), BATCH):
        stream.update(faces[row : row + BATCH], norms[row : row + BATCH])
    return stream, len(norms) / (time.perf_counter() - start)


def farthest_point_radii(faces: np.ndarray, sizes: set[int]) -> dict[int, float]:
    """The radius of farthest-point covers of several sizes: {size: radius}."""
    distance, found = np.full(len(faces), np.inf, np.float32), {}
    for count in range(max(sizes) + 1):
        if count in sizes:
            found[count] = float(distance.max())
        nearest = cosines_on_host(faces[[distance.argmax()]], faces)[0]
        distance = np.minimum(distance, np.sqrt(np.maximum(2 - 2 * nearest, 0)))
    return found


def radius(faces: np.ndarray, centers: np.ndarray) -> float:
    """The largest Euclidean distance of a face to its nearest center."""
    return float(np.sqrt(max(0.0, 2 - 2 * (faces @ centers.T).max(axis=1).min())))


def tar(left, left_ids, right=None, right_ids=None) -> str:
    """TAR at FAR 1e-3 of all pairs within or between sets of descriptors; '-' with too few impostors."""
    if right is None:
        pairs = all_pairs(left_ids)
        scores, same = (left[pairs.first] * left[pairs.second]).sum(axis=1), pairs.same
    else:
        scores, same = (left @ right.T).ravel(), (left_ids[:, None] == right_ids[None]).ravel()
    value = operating_points(scores, same, (FAR,))[0].tar
    return "-" if value is None else f"{value:.3f}"


def simulated(model, people: int, frames: int) -> tuple[list[Run], np.ndarray, tuple]:
    """Runs on simulated streams: (runs, batch descriptors, (descriptors of single frames, their people))."""
    rng, kinds, batch = np.random.default_rng(0), runs(2 * people), []
    identities = random_directions(rng, people, model.dim)
    with StepProgress(2 * people, 0, 1, "streams", "streams") as progress:
        for number in range(2 * people):
            faces, norms = draw_video(np.random.default_rng([1, number]), identities[number // 2], frames)
            batch.append(model.aggregate(faces, norms).descriptors[0])
            best = farthest_point_radii(faces, {kind.size for kind in kinds}) if number < COVERED else {}
            for kind in kinds:
                if number >= kind.streams:
                    continue
                if kind.merged:
                    half = frames // 2
                    stream, rate = summarise(model, faces[:half], norms[:half], kind.size, kind.growth)
                    stream.merge(summarise(model, faces[half:], norms[half:], kind.size, kind.growth)[0])
                else:
                    stream, rate = summarise(model, faces, norms, kind.size, kind.growth)
                vector = stream.descriptor()[0]
                kind.vectors.append(vector)
                kind.cosines.append(float(vector @ batch[-1]))
                kind.rates.append(rate)
                kind.held.append(len(stream))
                if best:
                    reached = radius(faces, stream._k_center.centers)
                    kind.ratios.append(reached / stream.least_radius)
                    kind.covers.append(reached / best[kind.size])
            progress.advance(f"cosine {kinds[0].cosines[-1]:.4f}")
    person = np.repeat(np.arange(people), STILLS)
    frames = [draw_video(rng, identities[who], 10) for who in person]
    faces, norms = (np.concatenate([frame[column][:1] for frame in frames]) for column in (0, 1))
    stills = model.aggregate(faces, norms, np.arange(len(person))).descriptors
    return kinds, np.stack(batch), (stills, person)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--features")
    parser.add_argument("--features-model")
    args = parser.parse_args()
    kinds, batch, stills = simulated(fpsset.load(args.model), args.people, args.frames)
    rows = []
    for kind in kinds:
        vectors, person, expected = (
            np.stack(kind.vectors),
            np.arange(kind.streams) // 2,
            batch[: kind.streams],
        )
        rows.append(
            [
                kind.name,
                f"{kind.streams}",
                *figures(kind.cosines),
                f"{tar(vectors, person)} ({tar(expected, person)})",
                f"{tar(vectors, person, *stills)} ({tar(expected, person, *stills)})",
                f"{np.median(kind.held):.0f}",
                f"{np.median(kind.ratios):.2f}",
                f"{np.median(kind.covers):.2f}",
                "" if kind.merged else f"{np.median(kind.rates):,.0f}",
            ]
        )
    columns = [
        *("", "streams", "cosine", "5%", "> .99", "TAR (batch)", "to frames", "held", "radius / bound"),
        *("/ cover", "faces/s"),
    ]
    show(f"Streams of {args.frames:,} frames", columns, rows, [])
    if args.features:
        from_file(fpsset.load(args.features_model), args.features)


def figures(cosines) -> list[str]:
    """Median, 5th percentile and share above .99, formatted."""
    cosines = np.array(cosines)
    return [
        f"{np.median(cosines):.4f}",
        f"{np.percentile(cosines, 5):.4f}",
        f"{(cosines > 0.99).mean():.0%}",
    ]


def from_file(model, path: str) -> None:
    """Prints the table of a file's templates."""
    table = read_features(path)
    ids, subjects, sets = templates(table)
    owner = np.arange(len(ids)).repeat(sets.sizes())
    faces, norms = table.embeddings[sets.rows], table.norms[sets.rows]
    batch, rows = model.aggregate(faces, norms, owner).descriptors, []
    for size in (256, 16, 8):
        vectors = np.stack(
            [
                summarise(model, faces[start:end], norms[start:end], size, 1.1)[0].descriptor()[0]
                for start, end in zip(sets.starts[:-1], sets.starts[1:], strict=True)
            ]
        )
        cosines = (vectors * batch).sum(axis=1)
        rows.append([f"M {size}", *figures(cosines), f"{tar(vectors, subjects)} ({tar(batch, subjects)})"])
    sizes = sets.sizes()
    title = f"{len(ids)} templates of a file, {sizes.min()} to {sizes.max()} faces"
    show(title, ["", "cosine", "5%", "> .99", "TAR (batch)"], rows, [])


if __name__ == "__main__":
    main()
