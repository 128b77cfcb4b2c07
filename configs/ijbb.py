"""IJB-B: 1:1 verification and 1:N identification of its official protocol.

python -m fpsset.main --config configs/ijbb.py:eval --config.weights=FaceCoresetNet.ckpt \
    --config.data.eval=IJBB --workdir runs/ijbb

IJBB/meta holds the official lists (ijbb_face_tid_mid.txt, ijbb_template_pair_label.txt, ijbb_1N_*.csv);
features lie in IJBB or beside it (*features*.pickle, .npz or .npy), rows as in ijbb_face_tid_mid.txt, or
are named by --config.data.eval_features=FILE. A dataset that configs/prepare.py made serves as well.
For figures to compare with published ones add --config.evaluation.convention=nearest.

python -m fpsset.main --config configs/ijbb.py --workdir runs/ijbb

trains the published recipe first, on the subset of WebFace4M that `configs/prepare.py:webface4m_subset`
makes, embedded by the backbone in weights/adaface. `:features` trains on webface4m.npz instead, which
`configs/webface4m.py:cache` makes. What is missing is said at once, with where it comes from.
"""

from fpsset.config import ijb_config


def get_config(mode: str = "images"):
    """`:eval` evaluates `config.weights`, or the workdir's best checkpoint, and trains nothing."""
    return ijb_config("IJBB", mode)
