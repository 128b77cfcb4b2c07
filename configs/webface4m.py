"""The recipe of FaceCoresetNet's official script on WebFace4M, from images or cached features of their clips.

python -m fpsset.main --config configs/webface4m.py --config.data.train=WEBFACE4M \
    --config.backbone.weights=WEIGHTS --config.data.eval=IJBC --workdir runs/webface4m

WEBFACE4M holds one folder per person, for 10,000 people, with aligned crops of 112 x 112 pixels, or is a .rec
pack of them. WEIGHTS is the frozen backbone, AdaFace's IR-101 in the paper; IJBC's features must come from
the same one. Every step augments its images anew and embeds them: 420 faces on average. Alternatively, embed
four clips of each image of a folder once, and train on features as fast as on any others:

python -m fpsset.main --config configs/webface4m.py:cache --config.images=WEBFACE4M \
    --config.weights=WEIGHTS --config.out=webface4m.npz
python -m fpsset.main --config configs/webface4m.py:features --config.data.train=webface4m.npz \
    --config.data.eval=IJBC --workdir runs/webface4m

Neither the images nor a GPU were available, so no time or accuracy was measured at this size. On 2 CPU cores
an IR-101 embeds 7 faces a second, which is a minute for each of some 400,000 steps, so use a GPU, and fewer
--config.recipe.epochs. docs/published.md says how the recipe goes and what still differs: above all, a tenth
of the people are held out, so that 11,112 people leave 10,000 to train on.
"""

from fpsset.config import extraction_config, published_config


def get_config(mode: str = "images"):
    """`:cache` makes features of clips, `:features` trains on them, `:eval` evaluates without training."""
    if mode == "cache":
        config = extraction_config()
        config.augmented, config.channels, config.operations = 4, "bgr", "ordered"
        return config
    config = published_config()
    config.mode = "train" if mode in ("images", "features") else mode
    config.data.norm_mean = 0.0  # norms as the official backbone gives them
    config.data.source = "features" if mode == "features" else "images"
    config.data.eval = "IJBC"
    return config
