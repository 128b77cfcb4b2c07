"""Measures what is found in photos and videos whose truth is known: faces, landmarks, people, tracks.

python benchmarks/photos.py ../shared --work /tmp/photos

The folder holds faces/, with one folder per person of aligned crops, and models/ with a YuNet and a
recogniser. Sixty photos of one to six of these faces, and three videos of two who cross, are made in the work
folder; delete it afterwards. A face counts as found if its five landmarks are off by less than .15 of the
crop's side on average.
"""

import argparse
import json
import pathlib
import resource
import time

import numpy as np
from ml_collections import ConfigDict
from pasted_faces import Pasted, make_photos, make_video
from PIL import Image
from timing import show

import fpsset
from fpsset.images.detector import FaceDetector
from fpsset.images.finding import FindingOptions
from fpsset.images.photo_faces import find_photo_faces
from fpsset.images.photo_listing import list_sources
from fpsset.images.photos import read_photo
from fpsset.images.recognisers import load_recogniser

NEAR = 0.15
PAIRS = (("person_00", "person_01"), ("person_04", "person_11"), ("person_07", "person_09"))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    flags.add_argument("shared", type=pathlib.Path)
    flags.add_argument("--work", type=pathlib.Path, required=True)
    flags.add_argument("--count", type=int, default=60)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--only", choices=["photos", "videos", "speed"])
    flags.add_argument("--speed", type=int, default=0, help="photos of 12 megapixels to time")
    options = flags.parse_args()
    models = options.shared / "models"
    recogniser = load_recogniser(
        ConfigDict(
            {
                "weights": str(models / "mobilefacenet_512.onnx"),
                "color_order": "bgr",
                "mean": 127.0,
                "std": 128.0,
                "dtype": "float32",
            }
        )
    )
    finding = FindingOptions(models / "yunet_n_dynamic.onnx")
    faces = options.shared / "faces"
    if options.only in (None, "photos"):
        try_photos(faces, options.work / f"photos_{options.seed}", options, recogniser, finding)
    if options.only in (None, "videos"):
        try_videos(faces, options.work, options.seed, recogniser, finding)
    if options.speed:
        try_speed(faces, options.work / "large", options.speed, recogniser, finding)


def try_photos(faces: pathlib.Path, folder: pathlib.Path, options, recogniser, finding) -> None:
    truth = folder / "truth.json"
    if not truth.is_file():
        make_photos(faces, folder, options.count, options.seed)
    pasted = [Pasted(**one) for one in json.loads(truth.read_text())]
    detector = FaceDetector(finding.detector)
    errors, false, sizes = [], 0, np.array([one.size for one in pasted])
    for name in sorted({one.file for one in pasted}):
        found = detector(read_photo(folder / name))
        used = set()
        for one in (one for one in pasted if one.file == name):
            off = np.linalg.norm(found.landmarks - np.array(one.landmarks), axis=2).mean(1) / one.size
            errors.append(off.min(initial=np.inf))
            used |= set(np.flatnonzero(off < 2 * NEAR).tolist())
        false += len(found) - len(used)
    errors = np.array(errors)
    rows = []
    for low, high in ((40, 60), (60, 100), (100, 401), (60, 401)):
        held = (sizes >= low) & (sizes < high)
        near = errors[held] < NEAR
        off = np.percentile(errors[held][near], [50, 97])
        rows.append(
            [f"{low} to {high - 1}", str(held.sum()), f"{near.mean():.4f}", *(f"{x:.3f}" for x in off)]
        )
    columns = ["pixels", "faces", "recall", "landmarks off, median", "97%"]
    show(f"{options.count} photos, {false} false faces", columns, rows, [])

    # A folder for each person, with every photo that the person is in, among others.
    for one in pasted:
        link = folder / "people" / one.crop.partition("/")[0] / one.file
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.hardlink_to(folder / one.file)
    found = find_photo_faces(list_sources([folder / "people"]), recogniser, finding)
    crops = np.stack([np.asarray(Image.open(faces / one.crop).convert("RGB")) for one in pasted])
    vectors, norms = recogniser(crops)
    model = fpsset.PlainAggregator()
    cosines, right, chosen = [], 0, 0
    for number, person in found.people.items():
        rows = np.flatnonzero(found.table.subject == number)
        given = [i for i, one in enumerate(pasted) if one.crop.startswith(f"{person}/")]
        for row in rows:
            photo = found.table.paths[row].rpartition("/")[2]
            off = [
                np.linalg.norm(found.found.landmarks[row] - np.array(pasted[i].landmarks), axis=1).mean()
                / pasted[i].size
                for i in given
                if pasted[i].file == photo
            ]
            right += min(off) < NEAR
            chosen += 1
        sets = [
            model.aggregate(v, n, np.zeros(len(n), int)).descriptors[0]
            for v, n in (
                (found.table.embeddings[rows], found.table.norms[rows]),
                (vectors[given], norms[given]),
            )
        ]
        cosines.append(sets[0] @ sets[1])
    low, middle = np.min(cosines), np.median(cosines)
    print(f"\npeople: {right} of {chosen} faces taken are the person's ({len(pasted)} pasted)")
    print(f"descriptors against those of the given crops: median cosine {middle:.4f}, lowest {low:.4f}")


def try_videos(faces: pathlib.Path, work: pathlib.Path, seed: int, recogniser, finding) -> None:
    rows = []
    work.mkdir(parents=True, exist_ok=True)
    for number, people in enumerate(PAIRS):
        file = work / f"video_{seed}_{number}.mp4"
        shown = make_video(faces, file, people, 10 * seed + number)
        found = find_photo_faces(list_sources([file]), recogniser, finding)
        who = np.full(len(found.table), -1)
        for row, (time_, box) in enumerate(zip(found.table.time, found.table.box, strict=True)):
            centre = box[:2] + box[2:] / 2
            near = [one for one in shown if abs(one.time - time_) < 0.02]
            off = [np.linalg.norm(centre - one.centre) / one.size for one in near]
            if min(off) < 0.35 and np.ptp(off) > 0.2:  # else one is behind the other, and nobody can tell
                who[row] = near[int(np.argmin(off))].person
        tracks, subjects = found.table.media, found.table.subject
        mixed = [
            len(np.unique(who[(ids == i) & (who >= 0)])) > 1 for ids in (tracks, subjects) for i in set(ids)
        ]
        count = len(set(tracks.tolist()))
        rows.append(
            [
                file.name,
                str(len(who)),
                str((who < 0).sum()),
                str(count),
                str(sum(mixed[:count])),
                str(len(mixed) - count),
                str(sum(mixed[count:])),
            ]
        )
    columns = ["video", "faces", "of nobody", "tracks", "with a switch", "people", "of two"]
    show("videos of two people who cross, with a cut", columns, rows, [])


def try_speed(faces: pathlib.Path, folder: pathlib.Path, count: int, recogniser, finding) -> None:
    made = 40  # the others are the same under other names, as nothing is remembered
    if not folder.is_dir():
        make_photos(faces, folder, made, 5, sides=(4000,))
        for number in range(made, count):
            (folder / f"photo_{number:04}.jpg").hardlink_to(folder / f"photo_{number % made:04}.jpg")
    paths = sorted(folder.glob("*.jpg"))[:count]
    start, cpu = time.perf_counter(), time.process_time()
    for path in paths:
        read_photo(path)
    decoded, decoding = time.perf_counter() - start, time.process_time() - cpu
    start, cpu = time.perf_counter(), time.process_time()
    sources = list_sources(paths)
    found = find_photo_faces(sources, recogniser, finding)
    whole, working = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\n{len(paths)} photos of 12 megapixels, {len(found.table)} faces: {len(paths) / whole:.2f} "
        f"images/s; decoding alone, in one thread, {len(paths) / decoded:.2f}; at most {peak:.2f} GiB\n"
        f"CPU seconds a photo: {working / len(paths):.2f}, of which decoding {decoding / len(paths):.2f}"
    )


if __name__ == "__main__":
    main()
