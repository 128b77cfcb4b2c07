"""Extract features: align faces, embed them with a backbone, and write one feature file.

python -m fpsset.main --config configs/extract.py \
    --config.images=DIR --config.weights=WEIGHTS --config.out=features.npz

DIR holds one folder per person with aligned crops of 112 x 112 pixels, or is an IJB loose_crop folder with
its *_name_5pts_score.txt; or, with --config.detector=YUNET.onnx, photos and videos (docs/photos.md). WEIGHTS
is a folder that `fpsset convert` wrote, a published checkpoint or an .onnx recogniser; for .onnx, give a
preset, or colour order, mean and standard deviation, e.g. --config.preset=insightface, or
--config.color_order=bgr --config.mean=127.5 --config.std=127.5. On 2 CPU cores expect about 7 images a second
with an IR-101 and 150 with a MobileFaceNet.
"""

from fpsset.config import extraction_config


def get_config():
    """fpsset/config explains every field."""
    return extraction_config()
