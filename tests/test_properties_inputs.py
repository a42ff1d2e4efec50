"""Whatever a config or a data file holds, the answer is an InputError or the right data: no crash, hang or change.

Cases are drawn by hypothesis from a fixed seed, so that every run of the suite tries the same ones. Where a format has
checksums (npz, the decode cache), damage must end in an error or change nothing at all.
"""

import copy
import datetime
import json
import math
import pathlib
import pickle
import zipfile
import zlib

import numpy as np
import pytest
from helpers.data import ROWS, batch, tarball, tiny_dataset, write_binary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from margin_jax import validation as checks
from margin_jax.config import default_config, flatten
from margin_jax.data.cache import cached
from margin_jax.data.cifar import BINARY_FOLDER, PICKLE_BATCHES, PICKLE_FOLDER
from margin_jax.data.dataset import digest, validate_dataset
from margin_jax.data.load import load_data
from margin_jax.data.prepare import _unpack
from margin_jax.errors import InputError
from margin_jax.experiments.sweep_members import members
from margin_jax.run_folder.write import difference, storable


def cases(count):
    """The same `count` cases in every run; one of more than 20 seconds fails."""
    return settings(max_examples=count, derandomize=True, database=None, deadline=datetime.timedelta(seconds=20),
                    suppress_health_check=list(HealthCheck))


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    return tmp_path_factory.mktemp("inputs")


def contents(folder):
    """Every file below a folder with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Configs.

NUMBERS = st.one_of(st.integers(-3, 60), st.sampled_from([2**31 - 1, 2**31, 2**32, 2**63, 10**40, -10**40, 10**400,
                                                          10**5000, -2**31]),
                    st.floats(), st.sampled_from([1e-320, 1e300, 0.5, 1.0, 2.0]))
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["", "sgd", "inf", "a\0b", "\udc80", "x" * 10**5, "random"]))
PLAIN = st.one_of(NUMBERS, st.booleans(), TEXTS, st.none(), st.binary(max_size=3), st.just(1j), st.just({}),
                  st.just(np.float32(1)))
SEQUENCES = st.one_of(*(st.lists(kind, max_size=4) for kind in (NUMBERS, TEXTS, st.booleans(), PLAIN)),
                      st.lists(st.lists(NUMBERS, max_size=3), max_size=3))
VALUES = st.one_of(PLAIN, SEQUENCES, SEQUENCES.map(tuple), st.sets(st.integers(), max_size=2),
                   st.dictionaries(st.text(max_size=3), PLAIN, max_size=2))
DEFAULTS = flatten(default_config())
KEYS = st.sampled_from(sorted(DEFAULTS))


def of_type(default):
    """Values of a key's own type, half of which are near what is allowed."""
    if isinstance(default, tuple):
        kinds = [st.integers(1, 50), st.floats(1e-3, 1.0), st.booleans()]
        kinds += [st.sampled_from(default)] * bool(default)
        return st.one_of(*(st.lists(kind, max_size=3, unique=True).map(tuple) for kind in kinds), SEQUENCES.map(tuple))
    kinds = {bool: st.booleans(), int: st.integers(-2, 300), float: st.one_of(st.floats(0, 1), st.floats()), str: TEXTS}
    choices = [name for names in checks.CHOICES.values() for name in names]
    return st.one_of(kinds[type(default)], st.sampled_from(choices)) if type(default) is str else kinds[type(default)]


@st.composite
def configs(draw):
    """The defaults with up to four keys of their own type and at most one value of anything."""
    config = default_config().to_dict()
    keys = draw(st.lists(KEYS, max_size=4, unique=True))
    changes = {key: draw(of_type(DEFAULTS[key])) for key in keys}
    if draw(st.booleans()):
        changes[draw(KEYS)] = draw(VALUES)
    if draw(st.integers(0, 20)) == 0:
        changes[draw(st.sampled_from(["model", "optimizer", "no_key", "model.no_key", "sweep"]))] = draw(VALUES)
    for key, value in changes.items():
        *sections, last = key.split(".")
        inner = config
        for section in sections:
            inner = inner[section] if isinstance(inner, dict) else {}
        inner[last] = value
    return config


VALIDATE = (checks.validate, checks.validate_compression, checks.validate_sweep, checks.validate_stability,
            lambda config: checks.validate_with_data(config, np.arange(100)),
            lambda config: members(ConfigDict(config)))


@cases(600)
@given(configs())
def test_a_config_is_refused_or_valid_and_survives_json(config):
    before = copy.deepcopy(config)
    for check in VALIDATE:
        try:
            check(config)
        except InputError as error:
            assert 0 < len(str(error)) < 1500
            if check is checks.validate:
                break
        else:
            if check is checks.validate:
                text = json.dumps(storable(config), allow_nan=False)
                text.encode()
                assert difference(json.loads(text), config) == []
    assert repr_of(config) == repr_of(before)


def repr_of(value):
    """repr, in which NaN equals itself, also of whole numbers too long for it and of sets, which have no order."""
    if isinstance(value, dict):
        return {key: repr_of(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [repr_of(inner) for inner in value]
    if isinstance(value, set):
        return sorted(map(repr, value))
    return value if type(value) is int else repr(value)


@cases(60)
@given(st.integers(0, 10**6))
def test_valid_configs_are_among_those_that_are_drawn(seed):
    """A suite that refuses everything would pass the test above."""
    generator = np.random.default_rng(seed)
    config = default_config()
    config.epochs, config.batch_size = int(generator.integers(1, 1000)), int(generator.integers(0, 100))
    config.model.widths = tuple(int(width) for width in generator.integers(1, 99, 3))
    config.rho.p = float(generator.choice([1.0, 2.5, math.inf]))
    config.gamma.absolute = tuple(float(gamma) for gamma in generator.random(2) + 1e-9)
    checks.validate(config)
    stored = json.loads(json.dumps(storable(config), allow_nan=False))
    assert difference(stored, config) == []


# Arrays of a user.

TYPES = ["u1", "u2", "i1", "i4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i4", "?", "c8", "U3", "S2", "M8[s]", "V3"]


def array_of(kind, shape, seed, high):
    """Random values of a type: numbers in 0..high, or their text."""
    values = np.random.default_rng(seed).integers(0, high + 1, shape)
    if kind == "V3":
        return np.zeros(shape, kind)
    if kind == "M8[s]":
        return values.astype("i8").astype(kind)
    return values.astype(kind)


@st.composite
def npz_contents(draw):
    """A valid set of arrays with up to three of them changed, left out, renamed or added."""
    rows, test_rows, classes, seed = draw(st.integers(4, 12)), draw(st.integers(1, 6)), 2, draw(st.integers(0, 999))
    kind, high = draw(st.sampled_from([("u1", 255), ("u1", 16), ("f4", 1), ("f8", 255), ("f2", 9)]))
    shape = draw(st.sampled_from([(4, 5, 3), (4, 5), (8, 8, 1), (3, 8, 8), (1, 1, 1), (32, 3, 3)]))
    arrays = {"train_images": array_of(kind, (rows, *shape), seed, high), "train_labels": np.arange(rows) % classes,
              "test_images": array_of(kind, (test_rows, *shape), seed + 1, high),
              "test_labels": np.arange(test_rows) % classes}
    if draw(st.booleans()):
        arrays["train_ids"] = np.random.default_rng(seed).permutation(rows) * 3
    if draw(st.booleans()):
        arrays["class_names"] = np.array(["a", "b"])
    names = ["train_images", "train_labels", "test_images", "test_labels", "train_ids", "test_ids", "class_names"]
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*names, "ids", "labels", "extra", "file", "arr_0", ""]))
        change = draw(st.sampled_from(["other", "absent", "nan", "big"]))
        if change == "absent":
            arrays.pop(name, None)
        elif change == "other":
            other_shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, rows, test_rows]), max_size=5))
            arrays[name] = array_of(draw(st.sampled_from(TYPES)), other_shape, seed, draw(st.sampled_from([1, 2, 255])))
        elif name in arrays and arrays[name].size and arrays[name].dtype.kind in "fi":
            values = [np.nan, np.inf, -1e300] if arrays[name].dtype.kind == "f" else [-1, 2**31, 127]
            index = draw(st.integers(0, arrays[name].size - 1))
            with np.errstate(all="ignore"):
                arrays[name].flat[index] = np.array(draw(st.sampled_from(values))).astype(arrays[name].dtype)
    return arrays


def write(path, arrays, compressed=False):
    """np.savez, which takes no array called "file"."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


@cases(400)
@given(npz_contents())
def test_arrays_are_refused_or_read_row_by_row(folder, arrays):
    path = folder / "arrays.npz"
    write(path, arrays)
    before = path.read_bytes()
    try:
        dataset = load_data("npz", data_dir=str(path))
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 1500
        return
    finally:
        assert path.read_bytes() == before
    validate_dataset(dataset)
    assert set(arrays) <= {"train_images", "train_labels", "test_images", "test_labels", "train_ids", "test_ids",
                           "class_names"}
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        images, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"]
        ids = arrays.get(f"{name}_ids", np.arange(len(labels)))
        for row, number in enumerate(split.ids):
            place = ids.tolist().index(number)
            assert split.labels[row] == labels[place]
            assert np.array_equal(split.images[row].ravel(), images[place].ravel().astype(split.images.dtype))


# Damage.

@st.composite
def edits(draw):
    """One to three edits of a file: (what, where in 0..1, length, value)."""
    kind = st.sampled_from(["bit", "overwrite", "delete", "insert", "cut", "repeat"])
    where = st.one_of(st.floats(0, 1), st.floats(0, 0.02), st.floats(0.98, 1))
    return draw(st.lists(st.tuples(kind, where, st.integers(1, 40), st.integers(0, 255)), min_size=1, max_size=3))


def damaged(content, changes):
    """The content after the edits."""
    data = bytearray(content)
    for kind, where, length, value in changes:
        place = min(int(where * len(data)), max(len(data) - 1, 0))
        if kind == "bit" and data:
            data[place] ^= 1 << value % 8
        elif kind == "overwrite":
            data[place:place + length] = bytes([value]) * len(data[place:place + length])
        elif kind == "delete":
            del data[place:place + length]
        elif kind == "insert":
            data[place:place] = bytes([value]) * length
        elif kind == "repeat":
            data[place:place] = data[place:place + length]
        elif kind == "cut":
            del data[place:]
    return bytes(data)


@cases(300)
@given(edits(), st.booleans())
def test_a_damaged_npz_is_refused_or_read_as_it_was(folder, changes, compressed):
    path = folder / "damaged.npz"
    generator = np.random.default_rng(0)
    write(path, {"train_images": generator.integers(0, 256, (6, 3, 3, 1), dtype=np.uint8),
                 "train_labels": np.arange(6) % 2, "test_images": generator.integers(0, 256, (4, 3, 3, 1), np.uint8),
                 "test_labels": np.arange(4) % 2, "class_names": np.array(["cat", "dog"])}, compressed)
    whole = load_data("npz", data_dir=str(path))
    content = damaged(path.read_bytes(), changes)
    path.write_bytes(content)
    try:
        dataset = load_data("npz", data_dir=str(path))
    except InputError as error:
        assert "damaged.npz" in str(error)
    else:
        assert digest(dataset) == digest(whole) and dataset.class_names == whole.class_names
    assert path.read_bytes() == content


def write_pickles(folder, protocol):
    target = folder / PICKLE_FOLDER
    target.mkdir(exist_ok=True, parents=True)
    for seed, name in enumerate(PICKLE_BATCHES):
        pixels, labels = batch(seed)
        (target / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels.tolist()}, protocol))
    return target


@pytest.fixture(name="archives", scope="module")
def _archives(tmp_path_factory):
    """A binary archive and pickles of four protocols, each with its contents."""
    folders = [write_binary(tmp_path_factory.mktemp("binary"))]
    folders += [write_pickles(tmp_path_factory.mktemp("pickles"), protocol) for protocol in (0, 2, 4, 5)]
    return [(folder, contents(folder)) for folder in folders]


@cases(300)
@given(st.data())
def test_a_damaged_archive_is_refused_or_of_the_right_form(archives, data):
    """Its pixels and labels have no checksum; that of the whole archive is compared when it is fetched."""
    folder, whole = data.draw(st.sampled_from(archives))
    name = data.draw(st.sampled_from(sorted(whole)))
    changed = dict(whole) | {name: damaged(whole[name], data.draw(edits()))}
    try:
        (folder / name).write_bytes(changed[name])
        dataset = load_data("cifar10", data_dir=str(folder.parent))
    except InputError as error:
        assert len(str(error)) < 3000
    else:
        validate_dataset(dataset)
        assert dataset.train.images.shape == (5 * ROWS, 32, 32, 3) and dataset.train.images.dtype == np.uint8
    finally:
        after = contents(folder)
        (folder / name).write_bytes(whole[name])
    assert after == changed
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.fixture(name="packed", scope="module")
def _packed(tmp_path_factory):
    return tarball(write_binary(tmp_path_factory.mktemp("packed")))[0]


@cases(50)
@given(edits(), st.booleans())
def test_a_damaged_tar_archive_is_refused_or_unpacked_whole(folder, packed, changes, plain):
    content = zlib.decompress(packed, 31) if plain else packed
    archive = folder / "tar" / "archive.tar"
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(damaged(content, changes))
    target = archive.parent / BINARY_FOLDER
    try:
        _unpack(archive, target)
    except InputError as error:
        assert ".cifar-10-" not in str(error) and [path.name for path in archive.parent.iterdir()] == ["archive.tar"]
    else:
        validate_dataset(load_data("cifar10", data_dir=str(archive.parent)))
        assert len(contents(target)) in (6, 7)
        for path in target.iterdir():
            path.unlink()
        target.rmdir()


@cases(150)
@given(edits(), st.integers(0, 6))
def test_a_damaged_cache_gives_the_data_as_they_were(folder, changes, place):
    source, root = folder / "source", folder / "cache"
    source.mkdir(exist_ok=True)
    whole = tiny_dataset()
    cached(tiny_dataset, reader="test", source=source, cache_dir=str(root))
    [entry] = root.iterdir()
    path = sorted(entry.iterdir())[place]
    path.write_bytes(damaged(path.read_bytes(), changes))
    reads = []
    dataset = cached(lambda: reads.append(1) or tiny_dataset(), reader="test", source=source, cache_dir=str(root))
    assert digest(dataset) == digest(whole) and dataset.class_names == whole.class_names and dataset.name == whole.name
    assert [path.name for path in root.iterdir()] == [entry.name]
    again = cached(lambda: pytest.fail("written anew for nothing"), reader="test", source=source, cache_dir=str(root))
    assert digest(again) == digest(whole)


def test_nothing_was_left_beside_the_files(folder):
    """What the tests above made, as many as have run in this process, is all that is there."""
    assert {path.name for path in pathlib.Path(folder).iterdir()} <= {
        "arrays.npz", "damaged.npz", "tar", "source", "cache"}
