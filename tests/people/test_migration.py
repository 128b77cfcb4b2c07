"""A store with another model or backbone is that of the new faces; what is mapped is marked and measured."""

import dataclasses

import numpy as np
import pytest

import fpsset
from fpsset.errors import InputError
from fpsset.people.lists import listed, shown
from fpsset.people.migration import fit_map, migrate
from fpsset.people.people import forget
from fpsset.people.settings import read_settings, write_settings
from fpsset.people.store import open_store
from tests.people.edited import MODEL, enrolled, make_table, name_of, read

NEW = 24


@pytest.fixture(scope="module")
def table():
    return make_table(60, most=8)


@pytest.fixture(scope="module")
def another(table):
    """The same faces by a backbone whose embeddings are a rotation of the old ones, in more dimensions."""
    rng = np.random.default_rng(0)
    matrix = np.linalg.qr(rng.standard_normal((NEW, table.dim)))[0].T
    faces = (table.embeddings @ matrix).astype(np.float32)
    return dataclasses.replace(table, embeddings=faces, norms=3 * table.norms, backbone="new")


@pytest.fixture
def path(tmp_path, table):
    enrolled(tmp_path / "a.fps", table)
    return tmp_path / "a.fps"


def test_a_linear_backbone_is_found_again(table, another):
    found = fit_map(table.embeddings, table.norms, another.embeddings, another.norms)
    faces, norms = found(table.embeddings, table.norms)
    assert (faces * another.embeddings).sum(1).min() > 0.999
    np.testing.assert_allclose(norms, another.norms, rtol=1e-5)


def test_all_faces_embedded_anew_are_a_fresh_enrolment(path, table, another, tmp_path):
    with open_store(path) as store:
        with store.change():
            store.put("thresholds far", {"0.001": {}})
        done = migrate(store, MODEL, "plain", another)
        assert (done.embedded, done.mapped, done.cost) == (len(table), 0, None)
        settings = read_settings(store)
        assert settings.dim == NEW and settings.backbone == "new"
        assert store.get("thresholds far") is None
    with open_store(tmp_path / "b.fps", create=True) as store:
        from fpsset.people.people import People
        from fpsset.people.settings import Settings

        names = [name_of(person) for person in table.subject]
        People(store, MODEL, Settings(NEW, "new", "plain", MODEL.digest)).enrol(another, names, "photos")
    assert read(path)["descriptors"] == read(tmp_path / "b.fps")["descriptors"]


def test_the_others_are_mapped_marked_and_measured(path, table, another):
    some = another.take(table.subject < 40)
    with open_store(path) as store:
        done = migrate(store, MODEL, "plain", some)
        assert done.embedded == len(some) and done.mapped == len(table) - len(some)
        assert done.cost.people > 20 and done.cost.far == 1e-3
        assert abs(done.cost.mapped - done.cost.embedded) < 0.1
        assert {person.name for person in listed(store) if person.mapped} == {
            name_of(n) for n in range(40, 60)
        }
        assert all(face.mapped for face in shown(store, name_of(50)))
        assert not any(face.mapped for face in shown(store, name_of(3)))


def test_a_random_backbone_costs_everything(path, table, another):
    rng = np.random.default_rng(1)
    faces = rng.standard_normal(another.embeddings.shape).astype(np.float32)
    person = rng.standard_normal((60, NEW)).astype(np.float32)[table.subject]
    faces = person + 0.2 * faces
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    unlike = dataclasses.replace(another, embeddings=faces).take(table.subject < 40)
    with open_store(path) as store:
        cost = migrate(store, MODEL, "plain", unlike).cost
    assert cost.embedded > 0.9 and cost.mapped < 0.3


def test_another_model_or_number_of_prototypes(path, table, tmp_path):
    model = fpsset.PlainAggregator(coreset_size=2)
    with open_store(path) as store:
        migrate(store, model, "plain", None, prototypes=2)
        assert read_settings(store).digest == model.digest
    enrolled(tmp_path / "b.fps", table, prototypes=2)
    assert read(path)["descriptors"] == read(tmp_path / "b.fps")["descriptors"]


def test_refusals_change_nothing(path, another):
    before = read(path)
    with open_store(path) as store:
        with pytest.raises(InputError, match="faces of 2 people have both embeddings, too few to map"):
            migrate(store, MODEL, "plain", another.take(another.subject < 2))
        elsewhere = dataclasses.replace(another, paths=np.array(["x/" + path for path in another.paths]))
        with pytest.raises(InputError, match="holds no face of the store"):
            migrate(store, MODEL, "plain", elsewhere)
        with store.change():
            settings = read_settings(store)
            write_settings(store, settings._replace(backbone="old"))
        other = fpsset.PlainAggregator()
        other.backbone = "other"
        with pytest.raises(InputError, match="from the backbone old, the model's from other; give --from"):
            migrate(store, other, "other", None)
        with store.change():
            write_settings(store, settings)
    assert read(path) == before


def test_a_store_whose_people_are_all_forgotten(path, another):
    with open_store(path) as store:
        names = [name for (name,) in store.sql.execute("select name from people")]
        forget(store, names)
        with pytest.raises(InputError, match="nobody is enrolled"):
            migrate(store, MODEL, "plain", another)
