"""Every kind of file that fpsset reads: how to make one, and how it is read."""

import contextlib
import dataclasses
import pathlib
import pickle
from collections.abc import Callable

import grain
import jax.numpy as jnp
import numpy as np

import fpsset
from fpsset.config import extraction_config, preparation_config
from fpsset.data.files import read_features, write_features
from fpsset.data.npz import read_npy, write_npz
from fpsset.data.numpy_pickle import read_numpy_pickle
from fpsset.data.pair_lists import read_pairs
from fpsset.data.protocol_files import apply_protocol
from fpsset.data.simulated_ijb import simulate_ijb
from fpsset.data.synthetic import make_synthetic
from fpsset.datasets.preparation import prepare
from fpsset.datasets.prepared import PreparedImages, read_prepared
from fpsset.datasets.sources import open_images
from fpsset.errors import InputError
from fpsset.evaluation.calibration import Calibration, read_threshold, save_threshold
from fpsset.evaluation.resampling import Estimate, Interval
from fpsset.images.aligned_faces import read_face
from fpsset.images.listing import list_images
from fpsset.images.parts import Parts, read_part
from fpsset.images.recognisers import NOT_EMBEDDED
from fpsset.images.record_pack import RecordImages
from fpsset.training.checkpoints import Checkpoints
from fpsset.training.step import TrainState
from fpsset.weights.cards import AggregatorCard, read_weights
from fpsset.weights.trained import read_params
from tests.images.images import picture, write_people
from tests.packs import insightface_records, write_pack
from tests.sets import make_set, random_coreset_net
from tests.torch_files import aggregator_state, save


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
      make: writes one to a folder; returns its path and a function that reads it.
      sealed: whether a checksum covers it, so that no damage may give other values.
      few: bits in the default run.
    """

    make: Callable[[pathlib.Path], tuple[pathlib.Path, Callable[[], object]]]
    sealed: bool = True
    few: int = 16


def table():
    faces, _ = make_synthetic(6, 0, dim=8)
    return dataclasses.replace(
        faces,
        template=faces.subject * 2 + faces.media % 2,
        paths=np.char.mod("a/%d.png", np.arange(len(faces))),
        score=np.linspace(0, 1, len(faces), dtype=np.float32),
        flipped=faces.embeddings[::-1],
        backbone="abc",
    )


def values(record):
    """The fields of a dataclass, without the name of its file."""
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {name: value for name, value in fields.items() if name not in ("name", "sha256")}


def features(name):
    def make(folder):
        write_features(folder / name, table())
        return folder / name, lambda: values(read_features(folder / name))

    return make


def features_of_others(folder):
    import pyarrow
    from pyarrow import parquet

    faces = table()
    columns = {name: getattr(faces, name).tolist() for name in ("norms", "subject", "media", "paths")}
    columns |= {"embeddings": faces.embeddings.tolist()}
    parquet.write_table(pyarrow.table(columns), folder / "f.parquet")
    return folder / "f.parquet", lambda: values(read_features(folder / "f.parquet"))


def npy(folder):
    np.save(folder / "f.npy", table().embeddings)
    return folder / "f.npy", lambda: read_npy(folder / "f.npy")


def numpy_pickle(folder):
    faces = table()
    content = {"img_feats": faces.embeddings, "norms": faces.norms}
    (folder / "f.pickle").write_bytes(pickle.dumps(content, protocol=4))
    return folder / "f.pickle", lambda: read_numpy_pickle(folder / "f.pickle")


def pairs(folder):
    (folder / "pairs.txt").write_text("".join(f"{i} {i + 1} {i % 2}\n" for i in range(40)))
    return folder / "pairs.txt", lambda: read_pairs(folder / "pairs.txt")


def protocol(folder):
    faces, path = table(), folder / "protocol.csv"
    lines = [f"{row},{faces.subject[row] * 2},{faces.subject[row]}\n" for row in range(len(faces))]
    path.write_text("row,template,subject\n" + "".join(lines))
    return path, lambda: values(apply_protocol(faces, path)[0])


def gallery(folder):
    model = fpsset.PlainAggregator()
    found = model.aggregate(table().embeddings, table().norms, table().subject)
    model.save_gallery(folder / "g.npz", found.ids, found.descriptors, found.norms)
    return folder / "g.npz", lambda: model.load_gallery(folder / "g.npz")


def stream(model):
    def make(folder):
        faces = fpsset.StreamingAggregator(model, size=8).update(*make_set(0, 20, dim=8))
        faces.save(folder / "s.npz")

        def read():
            again = fpsset.StreamingAggregator.load(folder / "s.npz", model)
            return again.update(*make_set(1, 3, dim=8)).descriptor()

        return folder / "s.npz", read

    return make


def trained():
    """A model whose sums do depend on its picks."""
    net = fpsset.FaceCoresetNet(num_heads=2)
    return fpsset.Aggregator(random_coreset_net(net, 8), AggregatorCard(3, 2, 8, 1.0))


def part_of_an_extraction(folder):
    write_people(folder / "faces", people=2, each=3)
    images, file = list_images(folder / "faces"), folder / "000000000.npz"
    config = extraction_config()
    config.update(batch_size=4, batches_per_part=1)
    write_npz(
        file,
        {
            "rows": np.arange(3),
            "embeddings": np.eye(3, 8, dtype=np.float16),
            "norms": np.ones(3, np.float32),
            "bad_rows": np.array([3]),
            "bad_reasons": np.array([NOT_EMBEDDED]),
        },
    )

    def read():
        if not Parts(folder / "features.npz", images, config).is_valid(file):
            raise InputError("passed over")
        return read_part(file)

    return file, read


def prepared(pattern):
    def make(folder):
        simulate_ijb(folder / "IJBC", "ijbc", 0.01, dim=8)
        config = preparation_config()
        config.update(dataset="ijbc", source=str(folder / "IJBC"), out=str(folder / "out"))
        prepare(config)
        (info,) = (folder / "out").rglob("dataset_info.json")
        (path,) = info.parent.glob(pattern)

        def read():
            found = read_prepared(info.parent)
            return values(found.table), found.search, found.note, read_pairs(found.pairs_file)

        return path, read

    return make


def prepared_images(pattern):
    def make(folder):
        write_people(folder / "people", people=4, each=2)
        config = preparation_config()
        config.update(
            dataset="webface4m_subset", source=str(folder / "people"), out=str(folder / "out"), people=3
        )
        prepare(config)
        (info,) = (folder / "out").rglob("dataset_info.json")
        (path,) = info.parent.glob(pattern)

        def read():
            images = PreparedImages(info.parent)
            return images.subject, images.media, [images.read(row) for row in range(len(images))]

        return path, read

    return make


def pack(suffix):
    def make(folder):
        write_people(folder / "people", people=3, each=2)
        source = open_images(folder / "people")
        images = [source.read(row) for row in range(6)]
        path = write_pack(folder, insightface_records(images, source.subject.tolist()))

        def read():
            found = RecordImages(path)
            with contextlib.suppress(OSError):  # of one image, which is then left out
                return found.subject, [found.read(row) for row in range(len(found))]

        return path.with_suffix(suffix), read

    return make


def image(suffix):
    def make(folder):
        picture(3).save(folder / f"face{suffix}")
        return folder / f"face{suffix}", lambda: read_face(folder / f"face{suffix}")

    return make


def official(path):
    weights = fpsset.load_official(path)
    return dict(weights), values(weights.card)


def checkpoint(folder):
    path = folder / "model.ckpt"
    state = aggregator_state(16)
    save(path, {"state_dict": state, "hyper_parameters": {"m": 0.5, "coreset_size": 3}})

    return path, lambda: official(path)


def weights(name):
    def make(folder):
        model = fpsset.Aggregator({"gamma": np.float32(0.5)}, AggregatorCard(3, 4, dim=16, norm_scale=2.5))
        model.save(folder / "w")
        (path,) = (folder / "w").glob(name)

        def read():
            found = read_weights(folder / "w")
            return dict(found), values(found.card)

        return path, read

    return make


def thresholds(folder):
    estimate = Estimate(0.408, Interval(0.39, 0.42))
    found = Calibration(0.01, estimate, estimate, 0.009, 9, 1000, 50, 24, 1000, 0, "faces.npz", "0123abcd")
    path = folder / "thresholds.json"
    save_threshold(path, "aaaa", found)
    save_threshold(path, "aaaa", dataclasses.replace(found, far=0.1))
    return path, lambda: [read_threshold(path, "aaaa", far) for far in (0.01, 0.1)]


def run_checkpoint(name):
    def make(folder):
        params = {"aggregator": {"gamma": jnp.float32(2)}, "head": {"kernel": jnp.ones((2, 3))}}
        state = TrainState(jnp.int32(1), params, {"mean": jnp.float32(20)}, (jnp.zeros(3),))
        batches = iter(grain.MapDataset.range(100).to_iter_dataset())
        with Checkpoints(folder / "run") as checkpoints:
            checkpoints.save(state, batches, AggregatorCard(2, 4, dim=16, norm_scale=1.5), 0.5)
        (path,) = (folder / "run/checkpoints/1").glob(name)

        def read():
            params, card, _ = read_params(folder / "run")
            return params, values(card)

        return path, read

    return make


def safetensors(folder):
    from safetensors.numpy import save_file

    path = folder / "model.safetensors"
    save_file({key: np.asarray(value) for key, value in aggregator_state(8).items()}, path)

    return path, lambda: official(path)


KINDS = {
    "features.npz": Kind(features("f.npz")),
    "features.parquet": Kind(features("f.parquet")),
    "features.parquet of others": Kind(features_of_others, sealed=False),
    "features.npy": Kind(npy, sealed=False),
    "features.pickle": Kind(numpy_pickle, sealed=False),
    "pairs.txt": Kind(pairs, sealed=False),
    "protocol.csv": Kind(protocol, sealed=False),
    "gallery.npz": Kind(gallery),
    "stream.npz, plain": Kind(stream(fpsset.PlainAggregator())),
    "stream.npz, trained": Kind(lambda folder: stream(trained())(folder), few=4),
    "part of an extraction": Kind(part_of_an_extraction),
    "prepared dataset_info.json": Kind(prepared("dataset_info.json"), few=4),
    "prepared features.json": Kind(prepared("features.json"), few=4),
    "prepared metadata.json": Kind(prepared("metadata.json"), few=4),
    "prepared checksums.json": Kind(prepared("checksums.json"), few=4),
    "prepared protocol.npz": Kind(prepared("protocol.npz"), few=4),
    "prepared records": Kind(prepared("*.array_record*"), few=4),
    "prepared images.npz": Kind(prepared_images("images.npz"), few=4),
    "prepared images": Kind(prepared_images("*.array_record*"), few=4),
    "pack.rec": Kind(pack(".rec"), sealed=False),
    "pack.idx": Kind(pack(".idx"), sealed=False),
    "face.png": Kind(image(".png"), sealed=False),
    "face.jpg": Kind(image(".jpg"), sealed=False),
    "face.webp": Kind(image(".webp"), sealed=False),
    "face.bmp": Kind(image(".bmp"), sealed=False),
    "thresholds.json": Kind(thresholds),
    "card.json": Kind(weights("card.json"), few=8),
    "converted arrays": Kind(weights("variables/d/*"), few=4),
    "checkpoint's card": Kind(run_checkpoint("card/metadata"), few=8),
    "checkpoint's score": Kind(run_checkpoint("metrics/metrics"), few=4),
    "checkpoint's arrays": Kind(run_checkpoint("state/d/*"), few=8),
    "checkpoint's layout": Kind(run_checkpoint("state/manifest.ocdbt"), few=4),
    "model.ckpt": Kind(checkpoint, few=8),
    "model.safetensors": Kind(safetensors, sealed=False, few=8),
}
