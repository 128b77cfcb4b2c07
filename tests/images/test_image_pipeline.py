"""The image pipeline: clips show the right person, iterators resume, and damaged images are named."""

import jax
import numpy as np
import pytest

from fpsset.data.pipeline import TemplateLaw
from fpsset.datasets.sources import open_images
from fpsset.errors import InputError
from fpsset.images.image_pipeline import image_batches
from tests.image_source import make_source
from tests.packs import insightface_records, write_pack


def _take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_clips_show_the_person_and_frames_refer_to_their_images():
    source = make_source(people=5, each=3, size=8)
    rows = np.array([0, 1, 2, 6, 7, 12, 13, 14])  # of three people, of whom one lacks an image
    batches = _take(image_batches(source, rows, 6, seed=0, law=TemplateLaw(max_size=7), size=8), 20)
    seen, lengths = set(), []
    for batch in batches:
        assert batch.images.shape == (6, 7, 8, 8, 3) and batch.images.dtype == np.uint8
        for images, clip, medium, mask, label in zip(*batch, strict=True):
            used = clip[mask]
            assert used[0] == 0 and set(np.diff(used)) <= {0, 1}
            assert np.bincount(used).max() <= 3
            assert (images[used.max() + 1 :] == 0).all()
            drawn = []
            for image in images[: used.max() + 1]:
                (row,) = (r for r in rows if (source.pixels[r] == image).all())
                drawn.append(row)
                assert source.subject[row] == (0, 2, 4)[label]
                seen.add(int(row))
            of = np.array(drawn)[used]
            assert medium[mask].tolist() == [of.tolist().index(row) for row in of]
            lengths.extend(np.bincount(used)[:-1])  # the last clip may have been cut
    assert seen == set(rows.tolist()) and set(lengths) == {1, 2, 3}


def test_an_iterator_resumes_with_any_number_of_threads():
    source, rows = make_source(people=4, each=3, size=8), np.arange(12)
    straight = _take(image_batches(source, rows, 4, seed=5, law=TemplateLaw(max_size=5), size=8), 8)
    iterator = image_batches(source, rows, 4, seed=5, law=TemplateLaw(max_size=5), size=8, threads=2)
    _take(iterator, 5)
    fresh = image_batches(source, rows, 4, seed=5, law=TemplateLaw(max_size=5), size=8, threads=1)
    fresh.set_state(iterator.get_state())
    for one, other in zip(_take(fresh, 3), straight[5:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_pack_gives_the_same_batches_as_its_images(tmp_path):
    source = make_source(people=4, each=3, size=8)
    path = write_pack(tmp_path, insightface_records(source.encoded, source.subject.tolist()))
    ours, theirs = (image_batches(s, np.arange(12), 4, seed=2, size=8) for s in (open_images(path), source))
    for one, other in zip(_take(ours, 3), _take(theirs, 3), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    ("encoded", "problem"),
    [(b"no image", "not a whole image"), (None, "16 x 16 pixels, not an aligned crop of 8")],
)
def test_a_damaged_image_is_named(encoded, problem):
    source = make_source(people=4, each=1, size=8)
    source.encoded[2] = encoded or make_source(people=1, each=1, size=16).encoded[0]
    with pytest.raises(InputError, match=rf"image 2 of test: {problem}.*; fix it"):
        _take(image_batches(source, np.arange(4), 4, seed=0, size=8), 2)
