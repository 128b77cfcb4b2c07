"""Convert files to a TFDS dataset, which runs can read in their place.

python -m fpsset.main --config configs/prepare.py:ijbc --config.source=IJBC

The datasets: `ijbb` and `ijbc`, from the official folder, or from its loose_crop images with
--config.weights=WEIGHTS if there are no features; `face_features`, from a feature file; `webface4m_subset`,
from a folder per person or a .rec pack with aligned crops. On 2 CPU cores expect half a minute and 2.4 GB of
memory for the simulated IJB-C (23,124 records), and 1,500 images a second.
"""

from fpsset.config import preparation_config


def get_config(dataset: str = ""):
    """fpsset/config explains every field."""
    config = preparation_config()
    config.dataset = dataset
    return config
