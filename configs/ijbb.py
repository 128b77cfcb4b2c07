"""IJB-B: 1:1 verification and 1:N identification with the official protocol.

python -m fpsset.main --config configs/ijbb.py:eval --config.weights=FaceCoresetNet.ckpt \
    --config.data.eval=IJBB --workdir runs/ijbb

IJBB/meta holds the official lists (ijbb_face_tid_mid.txt, ijbb_template_pair_label.txt, ijbb_1N_*.csv); the
features are found in IJBB or beside it (*features*.pickle, .npz, .npy or .parquet), with rows in the order of
ijbb_face_tid_mid.txt, or named by --config.data.eval_features=FILE. A dataset made by configs/prepare.py
works too. To compare with published figures, add --config.evaluation.convention=nearest.

python -m fpsset.main --config configs/ijbb.py --workdir runs/ijbb

trains the published recipe first, on the WebFace4M subset that `configs/prepare.py:webface4m_subset` makes,
embedded by the backbone in weights/adaface. `:features` trains on webface4m.npz instead, which
`configs/webface4m.py:cache` makes. One message lists everything missing and where to get it.
"""

from fpsset.config import ijb_config


def get_config(mode: str = "images"):
    """`:eval` evaluates `config.weights`, or the workdir's best checkpoint, without training."""
    return ijb_config("IJBB", mode)
