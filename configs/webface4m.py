"""Train on WebFace4M as the paper does, from images or from cached features of augmented clips.

python -m fpsset.main --config configs/webface4m.py --config.data.train=WEBFACE4M \
    --config.backbone.weights=WEIGHTS --config.data.eval=IJBC --workdir runs/webface4m

WEBFACE4M holds one folder per person, for 10,000 people, with aligned crops of 112 x 112 pixels, or is a .rec
pack of them. WEIGHTS is the frozen backbone, AdaFace's IR-101 in the paper; IJBC's features must come from
the same one. Every step augments its images anew and embeds them: 420 faces on average. Alternatively, embed
the images of a folder once, and train on features as fast as on any others:

python -m fpsset.main --config configs/webface4m.py:cache --config.images=WEBFACE4M \
    --config.weights=WEIGHTS --config.out=webface4m.npz
python -m fpsset.main --config configs/webface4m.py:features --config.data.train=webface4m.npz \
    --config.data.eval=IJBC --workdir runs/webface4m

Neither the images nor a GPU were available, so no time or accuracy was measured at this size. On 2 CPU cores
an IR-101 embeds 7 faces a second, which is a minute for each of 4,000 steps, so use a GPU. The paper counts
about two passes over the images; 4,000 steps show each person 18 times, in about 100 clips. A tenth of the
people are held out, which the paper does not do: 11,112 people leave 10,000 to train on.
"""

from fpsset.config import extraction_config, published_config


def get_config(mode: str = "images"):
    """`:cache` makes features of clips, `:features` trains on them, `:eval` evaluates without training."""
    if mode == "cache":
        config = extraction_config()
        config.augmented = 4
        return config
    config = published_config()
    config.mode = "train" if mode in ("images", "features") else mode
    config.data.source = "features" if mode == "features" else "images"
    config.data.norm_mean = 0.0  # norms as the backbone gives them
    config.data.eval = "IJBC"
    return config
