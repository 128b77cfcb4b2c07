"""Makes photos and videos of real faces for tests, where the shared folder has them."""

import pathlib

import numpy as np
from PIL import Image

from benchmarks.pasted_faces import background, paste

YUNET = "models/yunet_n_dynamic.onnx"


def photo(faces: pathlib.Path, placed: list[tuple[str, tuple[int, int], float, float]], seed: int = 0):
    """(a PIL photo of 640 x 480, landmarks [N, 5, 2]) of faces (file, centre, size, degrees)."""
    image = background(np.random.default_rng(seed), 640, 480)
    marks = []
    for file, centre, size, degrees in placed:
        with Image.open(faces / file) as face:
            marks.append(paste(image, face.convert("RGB"), centre, size, degrees))
    return image, np.array(marks)


def write_video(path: pathlib.Path, frames: list[np.ndarray], rate: int = 10, codec: str = "mpeg4") -> None:
    """Writes frames [H, W, 3] uint8 RGB as a video."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
