"""Images to features: aligned faces through a backbone, into one feature file.

python -m fpsset.main --config configs/extract.py \
    --config.images=DIR --config.weights=WEIGHTS --config.out=features.npz

DIR holds a folder per person with aligned crops of 112 x 112 pixels, or is an IJB loose_crop folder with
its *_name_5pts_score.txt. WEIGHTS is a folder that `fpsset convert` wrote or a published checkpoint; for
an ONNX recogniser state what it wants, e.g. --config.color_order=bgr --config.mean=127.5
--config.std=127.5. On 2 CPU cores expect about 7 images a second with an IR-101 and 150 with a
MobileFaceNet.
"""

from fpsset.config import extraction_config


def get_config():
    """Every field is explained in fpsset/config.py."""
    return extraction_config()
