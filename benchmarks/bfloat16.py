"""What bfloat16 changes: picks, descriptors and TAR of a trained FaceCoresetNet, against its float32.

fpsset train features --data.train=train.npz --data.eval=clips.npz --model.name=face_coreset_net --workdir=RUN
python benchmarks/bfloat16.py RUN --evaluate clips.npz hard.npz

On a CPU, which rounds the operands of products to bfloat16 where a chip would and sums them in float32.
"""

import argparse
import pathlib

import jax.numpy as jnp
import numpy as np
from accuracy_protocols import FARS, protocol
from timing import show

import fpsset
from fpsset.data.files import read_features
from fpsset.evaluation.metric_names import far_name
from fpsset.inference.descriptors import describe


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--evaluate", nargs="+", type=pathlib.Path, required=True)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()
    model = fpsset.load(args.run)
    models = {name: model.module.clone(dtype=jnp.dtype(name)) for name in ("float32", "bfloat16")}
    rows = []
    for path in args.evaluate:
        part = protocol(read_features(path), path.stem, args.resamples)
        sets = part.sets._replace(norms=part.sets.norms * np.float32(model.norm_scale))
        found = describe(models, dict.fromkeys(models, model.variables), sets)
        exact, rounded = (found[name] for name in models)
        cosine = np.sum(exact.vectors * rounded.vectors, axis=1)
        same = np.mean(np.all(exact.picks == rounded.picks, axis=1))
        figures = [part.everyone.figure(one.vectors) for one in (exact, rounded)]
        difference = figures[1].minus(figures[0]).texts()
        for place, far in enumerate(FARS):
            tar = [f"{figure.tar[place]:.4f}" for figure in figures]
            rows.append(
                [path.stem, f"{part.everyone.genuine:,}", far_name(far), *tar, difference[place]]
                + [f"{cosine.min():.6f}", f"{np.median(cosine):.6f}", f"{same:.3f}"]
            )
    columns = [
        *("file", "genuine pairs", "FAR", "TAR, float32", "TAR, bfloat16", "bfloat16 minus float32 (95%)"),
        *("least cosine", "median cosine", "same picks"),
    ]
    show("bfloat16 against float32", columns, rows, [])


if __name__ == "__main__":
    main()
