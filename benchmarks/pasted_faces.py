"""Makes photos and videos by pasting aligned faces on textures, where the truth is known.

Faces come from a folder with one folder per person, of aligned crops of 112 x 112 pixels. They are scaled,
turned, and pasted with soft edges; nothing of them is kept beyond the folder that the caller names.
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFilter

from fpsset.images.aligned_faces import ARCFACE_112

SIDE = 112
_TURNS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


class Pasted(NamedTuple):
    """A face in a photo.

    Attributes:
      file: name of the photo.
      crop: path of the face, relative to the folder of people.
      size: pixels per side.
      landmarks: [5, 2] pixels (x, y), where (0, 0) is the centre of the first pixel of the upright photo.
    """

    file: str
    crop: str
    size: int
    landmarks: np.ndarray


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A texture: bricks, grass, gravel or noise of all scales, tinted, with a few shapes on it."""
    kind = rng.integers(4)
    if kind < 3:
        grey = np.asarray(getattr(skimage.data, ("brick", "grass", "gravel")[kind])())
        scale = rng.uniform(0.7, 2.5)
        tile = Image.fromarray(grey).resize((round(512 * scale),) * 2, Image.Resampling.BICUBIC)
        canvas = Image.new("L", (width, height))
        for x in range(0, width, tile.width):
            for y in range(0, height, tile.height):
                canvas.paste(tile, (x, y))
        values = np.asarray(canvas, np.float32)
    else:
        values = np.zeros((height, width), np.float32)
        for octave in range(2, 9):
            small = rng.standard_normal((2**octave, 2**octave)).astype(np.float32) * 40 / (octave - 1)
            values += np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
        values = np.clip(values + 128, 0, 255)
    tint = rng.uniform(0.4, 1.0, 3)
    image = Image.fromarray((values[..., None] * tint).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 12)):
        x, y = rng.uniform(0, (width, height))
        w, h = rng.uniform(0.02, 0.25, 2) * width
        fill = tuple(int(value) for value in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=fill)
    return image


def paste(image: Image.Image, face: Image.Image, centre, size: float, degrees: float) -> np.ndarray:
    """Pastes a crop with soft edges; returns where its landmarks are, [5, 2] pixels."""
    angle, scale = np.deg2rad(degrees), size / SIDE
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    reach = int(np.ceil(size * 0.75)) + 2
    left, top = (int(np.floor(value)) - reach for value in centre)
    if scale < 1:  # reduced first, since what follows does not average
        face = face.resize((max(8, round(size)),) * 2, Image.Resampling.LANCZOS)
    back = np.linalg.inv(turn * SIDE / face.width)
    middle = np.array(centre) - (left, top)
    offset = -back @ middle + face.width / 2
    matrix = (*back[0], offset[0], *back[1], offset[1])
    box = (2 * reach, 2 * reach)
    edge = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(edge).ellipse((4, -6, 108, 122), fill=255)
    edge = edge.filter(ImageFilter.GaussianBlur(4)).resize(face.size)
    moved = face.transform(box, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    mask = edge.transform(box, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    image.paste(moved, (left, top), mask)
    corners = ARCFACE_112 + 0.5 - SIDE / 2  # from the crop's centre, with the origin at a pixel's corner
    return corners @ turn.T + np.array(centre) - 0.5


def make_photos(
    faces: pathlib.Path,
    out: pathlib.Path,
    count: int = 60,
    seed: int = 0,
    sides: tuple[int, ...] = (1600, 2400, 4000),
) -> list[Pasted]:
    """Makes photos of one to six faces each, of 40 to 400 pixels, turned by up to 30 degrees, some by EXIF.

    Args:
      faces: folder with one folder per person.
      out: folder for the photos and `truth.json`.
      count: photos.
      seed: of all draws.
      sides: long sides of the photos, of which each takes one.
    """
    rng = np.random.default_rng(seed)
    people = [sorted(folder.glob("*.png")) for folder in sorted(faces.iterdir()) if folder.is_dir()]
    out.mkdir(parents=True, exist_ok=True)
    pasted = []
    for number in range(count):
        width = int(rng.choice(sides))
        height = width * 3 // 4
        if rng.random() < 0.5:
            width, height = height, width
        image = background(rng, width, height)
        name, taken = f"photo_{number:04}.jpg", []
        for person in rng.permutation(len(people))[: rng.integers(1, 7)]:
            size = float(np.exp(rng.uniform(np.log(40), np.log(400))))
            for _ in range(50):
                centre = rng.uniform(size * 0.75, np.array([width, height]) - size * 0.75)
                if all(np.abs(centre - c).max() > 0.75 * (size + s) for c, s in taken):
                    break
            else:
                continue
            taken.append((centre, size))
            crop = people[person][rng.integers(len(people[person]))]
            with Image.open(crop) as opened:
                face = opened.convert("RGB")
            marks = paste(image, face, centre, size, rng.uniform(-30, 30))
            pasted.append(Pasted(name, crop.relative_to(faces).as_posix(), round(size), marks))
        exif, orientation = Image.Exif(), int(rng.choice([1, 1, *_TURNS]))
        if orientation in _TURNS:
            image = image.transpose(_TURNS[orientation])
            exif[0x0112] = orientation
        image.save(out / name, quality=92, exif=exif)
    truth = [one._replace(landmarks=one.landmarks.tolist())._asdict() for one in pasted]
    (out / "truth.json").write_text(json.dumps(truth))
    return pasted


class Shown(NamedTuple):
    """A face in a frame of a video.

    Attributes:
      time: seconds.
      person: which of the two.
      centre: (x, y) pixels.
      size: pixels per side of the crop.
    """

    time: float
    person: int
    centre: tuple[float, float]
    size: float


def make_video(
    faces: pathlib.Path, out: pathlib.Path, people: tuple[str, str], seed: int = 0, seconds: float = 4.0
) -> list[Shown]:
    """Makes a video of two people who cross, the first in front, in two scenes with a cut between them.

    Args:
      faces: folder with one folder per person.
      out: the file.
      people: names of the two people's folders.
      seed: of all draws.
      seconds: of each scene.
    """
    import av

    rng, rate, width, height = np.random.default_rng([seed, 1]), 25, 640, 480
    crops = [
        [Image.open(p).convert("RGB") for p in sorted((faces / name).glob("clip*.png"))] for name in people
    ]
    shown, clock = [], 0
    with av.open(str(out), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 4_000_000
        for scene in range(2):
            wall = background(rng, width, height)
            sizes, heights = rng.uniform(90, 150, 2), rng.uniform(190, 290, 2)
            frames = round(seconds * rate)
            for number in range(frames):
                image, share = wall.copy(), number / (frames - 1)
                for person in (1, 0):  # the first last, so in front
                    along = share if (person == 0) == (scene == 0) else 1 - share
                    x = 100 + (width - 200) * along
                    y = heights[person] + 12 * np.sin(2 * np.pi * (share * 3 + person / 2))
                    face = crops[person][(number // 8 + 5 * scene) % len(crops[person])]
                    paste(image, face, (x, y), sizes[person], 8 * np.sin(2 * np.pi * share * 2))
                    shown.append(Shown(clock / rate, person, (float(x), float(y)), float(sizes[person])))
                for packet in stream.encode(av.VideoFrame.from_image(image)):
                    container.mux(packet)
                clock += 1
        for packet in stream.encode():
            container.mux(packet)
    return shown
