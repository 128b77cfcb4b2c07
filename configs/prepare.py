"""What lies on disk to a TFDS dataset that runs read in place of it.

python -m fpsset.main --config configs/prepare.py:ijbc --config.source=IJBC

The datasets: `ijbb` and `ijbc` of the official folder, with --config.weights=WEIGHTS from its loose_crop
images where there are no features; `face_features` of a feature file;
`webface4m_subset` of a folder per person or a .rec pack with aligned crops. On 2 CPU cores expect half a
minute and 2.4 GB of memory for the simulated IJB-C (23,124 records), and 1,500 images a second.
"""

from fpsset.config import preparation_config


def get_config(dataset: str = ""):
    """Every field is explained in fpsset/config.py."""
    config = preparation_config()
    config.dataset = dataset
    return config
