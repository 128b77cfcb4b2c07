"""Draws faces of a person who does not exist, for pictures that show picks from a set."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_SIDE = 160
_FINE = 4  # drawn this much larger, then reduced for smooth edges
_SKIN, _SHADE, _HAIR, _LIP = (229, 178, 143), (205, 148, 114), (70, 44, 34), (176, 84, 78)
_WALLS = (
    (183, 205, 214),
    (222, 208, 182),
    (186, 200, 176),
    (214, 190, 190),
    (190, 188, 212),
    (205, 205, 205),
)
_CLOTHES = ((52, 84, 122), (150, 68, 60), (68, 110, 84), (90, 78, 122), (176, 132, 62), (70, 70, 76))


def draw_face(medium: int, frame: int, quality: float) -> np.ndarray:
    """Draws one image of the person.

    Args:
      medium: seed of pose, expression, light, clothes and background.
      frame: seed of small movements of the head.
      quality: image quality in [0, 1]; the lower, the more blurred, coarse, dark and noisy.

    Returns:
      [160, 160, 3] uint8.
    """
    rng, still = np.random.default_rng([medium, 7]), np.random.default_rng([medium, frame, 8])
    yaw = rng.uniform(-0.8, 0.8) + 0.12 * still.standard_normal()
    roll = rng.uniform(-9, 9) + 2 * still.standard_normal()
    smile, opened, glasses = rng.uniform(-0.1, 1), rng.random() < 0.35, rng.random() < 0.3
    wall, clothes = (rng.integers(len(colors)) for colors in (_WALLS, _CLOTHES))
    image = _compose(yaw, roll, smile, opened, glasses, _WALLS[wall], _CLOTHES[clothes])
    return _degrade(image, rng.uniform(0.55, 0.95), quality, still)


def _compose(yaw, roll, smile, opened, glasses, wall, clothes) -> Image.Image:
    head = Image.new("RGBA", (_SIDE * _FINE,) * 2, (0, 0, 0, 0))
    draw = ImageDraw.Draw(head)

    def at(*numbers):
        return [number * _FINE for number in numbers]

    def oval(x, y, width, height, fill):
        draw.ellipse(at(x - width, y - height, x + width, y + height), fill=fill)

    middle, turn = 80 + 3 * yaw, 13 * yaw
    oval(middle - 2 * yaw, 72, 50, 56, _HAIR)
    draw.rounded_rectangle(at(middle - 50, 68, middle + 46, 128), 26 * _FINE, fill=_HAIR)
    draw.rounded_rectangle(at(middle - 16, 108, middle + 16, 150), 12 * _FINE, fill=_SHADE)
    for side in (-1, 1):
        if side * yaw < 0.45:
            oval(middle + 40 * side - 3 * yaw, 84, 8, 12, _SHADE)
    oval(middle, 82, 40, 49, _SKIN)
    for side in (-1, 1):
        x, width = middle + turn + 17 * side, 8 * (1 - 0.25 * max(0, side * yaw))
        oval(x, 80, width, 5.5, (250, 248, 245))
        oval(x + 2 * yaw, 80, 4.6, 4.9, (84, 104, 88))
        oval(x + 2 * yaw, 80, 2.3, 2.5, (24, 22, 24))
        oval(x + 2 * yaw + 1.4, 78.4, 1.1, 1.1, "white")
        draw.arc(at(x - 9, 73, x + 9, 88), 195, 345, fill=(60, 40, 34), width=2 * _FINE)
        draw.arc(at(x - 12, 64, x + 12, 84), 215, 325, fill=_HAIR, width=4 * _FINE)
        oval(middle + 0.6 * turn + 24 * side, 100, 8, 5, (234, 164, 136))
        if glasses:
            box = at(x - 14, 70, x + 14, 92)
            draw.rounded_rectangle(box, 8 * _FINE, outline=(40, 40, 48), width=int(2.4 * _FINE))
    if glasses:
        draw.line(at(middle + turn - 4, 79, middle + turn + 4, 79), fill=(40, 40, 48), width=2 * _FINE)
    nose = middle + 1.5 * turn
    draw.line(at(middle + 1.1 * turn, 84, nose + 2 * np.sign(yaw), 98), fill=_SHADE, width=3 * _FINE)
    draw.arc(at(nose - 7, 91, nose + 7, 103), 30, 150, fill=_SHADE, width=3 * _FINE)
    mouth, bend = middle + 1.1 * turn, 3 + 9 * max(smile, 0)
    if opened:
        draw.chord(at(mouth - 15, 112 - bend, mouth + 15, 112 + bend), 0, 180, fill=(120, 44, 46))
        draw.chord(at(mouth - 11, 112 - bend, mouth + 11, 112 + 0.4 * bend), 5, 175, fill=(250, 246, 240))
    else:
        draw.arc(at(mouth - 15, 112 - bend, mouth + 15, 112 + bend), 12, 168, fill=_LIP, width=4 * _FINE)
    part = middle - 10 + 8 * yaw
    draw.pieslice(at(middle - 46, 26, middle + 44, 100), 180, 360, fill=_HAIR)
    draw.polygon(at(middle - 45, 62, part, 62, middle - 40, 84), fill=_HAIR)
    draw.polygon(at(part, 62, middle + 43, 62, middle + 39, 86), fill=_HAIR)
    draw.chord(at(part - 26, 48, middle + 36, 84), 180, 360, fill=_HAIR)
    head = head.rotate(roll, Image.Resampling.BICUBIC, center=tuple(at(80, 130)))

    image = Image.new("RGB", head.size, wall)
    back = ImageDraw.Draw(image)
    back.ellipse(at(10, 132, 150, 230), fill=clothes)
    image.paste(head, (0, 0), head)
    return image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)


def _degrade(image: Image.Image, light: float, quality: float, rng: np.random.Generator) -> np.ndarray:
    poor = 1 - min(max(float(quality), 0.0), 1.0)
    small = round(_SIDE / (1 + 7 * poor**1.3))
    image = image.resize((small, small), Image.Resampling.BOX).resize(
        (_SIDE, _SIDE), Image.Resampling.BILINEAR
    )
    image = image.filter(ImageFilter.GaussianBlur(3.2 * poor))
    pixels = np.asarray(image, np.float32) * (1 - poor * (0.25 + 0.55 * (1 - light)))
    pixels += 9 * poor * rng.standard_normal((_SIDE, _SIDE, 1))
    return np.clip(pixels, 0, 255).astype(np.uint8)
