"""IJB-B: 1:1 verification and 1:N identification of its official protocol.

python -m fpsset.main --config configs/ijbb.py:eval --config.weights=FaceCoresetNet.ckpt \
    --config.data.eval=IJBB --workdir runs/ijbb

IJBB/meta holds the official lists (ijbb_face_tid_mid.txt, ijbb_template_pair_label.txt, ijbb_1N_*.csv);
features lie in IJBB or beside it (*features*.pickle, .npz or .npy), rows as in ijbb_face_tid_mid.txt, or
are named by --config.data.eval_features=FILE. A dataset that configs/prepare.py made serves as well.
Without `:eval` the published recipe is trained first, on the features that `configs/webface4m.py:cache`
makes (webface4m.npz, or --config.data.train=FILE), or on images: --config.data.train=DIR
--config.backbone.weights=WEIGHTS. For figures to compare with published ones add
--config.evaluation.convention=nearest.
"""

from fpsset.config import base_config


def get_config(mode: str = "train"):
    """`:eval` evaluates `config.weights`, or the workdir's best checkpoint, and trains nothing."""
    config = base_config()
    config.mode = mode
    config.data.train = "webface4m.npz"
    config.data.norm_mean = 0.0  # norms as the backbone gives them, as in configs/webface4m.py
    config.data.eval = "IJBB"
    return config
