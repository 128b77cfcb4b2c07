"""The published recipe, as config fields."""

from ml_collections import ConfigDict

from fpsset.config.training import RECIPE, base_config


def published_config() -> ConfigDict:
    """The recipe of FaceCoresetNet's official training script, independent of the defaults above.

    docs/published.md lists what still differs.
    """
    config = base_config()
    config.steps = config.eval_every = 0  # follow from epochs
    config.batch_size = 40  # 20 on each of two GPUs
    config.model.name = "face_coreset_net"
    config.model.num_heads = 8
    config.model.gamma = 0.01
    config.model.quality = False
    config.model.by_media = False
    config.model.init = "random"
    config.head.margin = 0.8
    config.head.init = "random"
    config.head.trained = True
    config.optimizer.learning_rate = 1e-4
    config.optimizer.weight_decay = 1e-3
    config.recipe.epochs = 150
    config.recipe.epoch = 0.1
    config.recipe.milestones = (20,)
    for field, (_, official) in RECIPE.items():
        config.recipe[field] = official
    return config


def ijb_config(folder: str, mode: str = "images") -> ConfigDict:
    """The published recipe, evaluated on IJB-B or IJB-C.

    Args:
      folder: of the protocol, 'IJBB' or 'IJBC'; override it with `config.data.eval`.
      mode: what to train on, 'images' or 'features'; or 'eval', to evaluate only.
    """
    config = published_config()
    config.mode = "train" if mode in ("images", "features") else mode
    config.data.norm_mean = 0.0  # norms as the official backbone gives them
    if mode == "features":
        config.data.train = "webface4m.npz"
    else:
        config.data.source = "images"
        config.data.train = "datasets/webface4m_subset/10000_seed0/1.0.0"
        config.backbone.weights = "weights/adaface"
    config.data.eval = folder
    return config
