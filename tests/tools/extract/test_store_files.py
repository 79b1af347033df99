"""Files of a feature store: what was written comes back, from a map, and what is damaged or missing is named."""

from __future__ import annotations

import json
import multiprocessing

import numpy as np
import pytest

from sparqle_fairseq.data import feature_store
from sparqle_fairseq.data.audio import AudioError, audio_length, is_features, read_audio, read_features
from sparqle_fairseq.data.feature_store import Entry, index_path, parse_entry, read_entry
from sparqle_fairseq.tools.extract.shard_file import ShardFile, size_text

WIDTH = 6
LENGTHS = (3, 1, 40)


@pytest.fixture(params=["fp16", "fp32"])
def shard(request, tmp_path):
    """Path of a shard, its arrays, their cells, and its precision."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((length, WIDTH)).astype(np.float32) for length in LENGTHS]
    path = tmp_path / "features-00000.bin"
    with ShardFile(path, request.param, WIDTH) as file:
        for i, array in enumerate(arrays):
            file.append(f"/audio/{i}.wav", array)
        file.finish()
    index = json.loads(index_path(path).read_text())
    cells = [f"{path}:{offset}:{frames}" for offset, frames in zip(index["offsets"], index["frames"], strict=True)]
    return path, arrays, cells, request.param


def test_features_come_back_in_the_stores_precision(shard):
    path, arrays, cells, precision = shard
    dtype = {"fp16": np.float16, "fp32": np.float32}[precision]
    for array, cell in zip(arrays, cells, strict=True):
        assert is_features(cell)
        assert audio_length(cell) == len(array)
        assert np.array_equal(read_entry(parse_entry(cell)), array.astype(dtype))
        read = read_features(cell)
        assert read.dtype == np.float32
        assert np.array_equal(read, array.astype(dtype).astype(np.float32))
    assert path.stat().st_size == sum(LENGTHS) * WIDTH * np.dtype(dtype).itemsize, "frames and nothing else"


def test_reading_is_a_slice_of_one_map(shard):
    feature_store.close_shards()
    views = [read_entry(parse_entry(cell)) for cell in shard[2] * 2]
    assert feature_store._open.cache_info().misses == 1
    assert not any(view.flags.writeable for view in views)
    maps = {id(_base(view)) for view in views}
    assert len(maps) == 1
    assert np.shares_memory(views[0], views[3])


def _base(array):
    while array.base is not None and isinstance(array.base, np.ndarray):
        array = array.base
    return array.base


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_what_this_one_mapped(shard, method):
    """The workers of a data loader, however they were started."""
    expected = read_features(shard[2][2])
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert np.array_equal(pool.apply(read_features, (shard[2][2],)), expected)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_flipped_bit_is_found_at_the_next_reading(shard, mapped):
    path, _, cells, _ = shard
    if mapped:
        read_features(cells[1])
    flip(path, parse_entry(cells[1]).offset + 5)
    read_features(cells[0])
    with pytest.raises(AudioError, match=r"features-00000\.bin.* are damaged, their checksum is") as error:
        read_features(cells[1])
    assert "\n" not in str(error.value)


DAMAGE = {
    "shard missing": (lambda path: path.unlink(), r"features-00000\.bin: this part of a feature store is missing"),
    "index missing": (lambda path: index_path(path).unlink(), r"features-00000\.json: this part of a .* is missing"),
    "shard cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes where its index says"),
    "shard longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes where its index says"),
    "index cut": (lambda path: index_path(path).write_text('{"width"'), "cannot be read as the index"),
    "index foreign": (lambda path: index_path(path).write_text("[1]"), "cannot be read as the index"),
    "index uneven": (
        lambda path: index_path(path).write_text(index_path(path).read_text().replace("/audio/0.wav", '", "x')),
        "its columns do not agree",
    ),
    "index of words": (
        lambda path: index_path(path).write_text(index_path(path).read_text().replace('"width": 6', '"width": "6"')),
        "other values than whole numbers",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_store_is_named_in_one_sentence(shard, name):
    path, _, cells, _ = shard
    damage, found = DAMAGE[name]
    damage(path)
    feature_store.close_shards()
    with pytest.raises(AudioError, match=found) as error:
        read_features(cells[0])
    assert "\n" not in str(error.value)
    assert "again" in str(error.value)


def test_an_entry_that_the_index_does_not_have(shard):
    path, _, cells, _ = shard
    entry = parse_entry(cells[0])
    for wrong in (entry._replace(frames=2), entry._replace(offset=1)):
        with pytest.raises(AudioError, match="has no such entry"):
            read_features(str(wrong))
    with pytest.raises(AudioError, match="found features where a waveform is needed"):
        read_audio(cells[0])
    assert Entry(str(path), 0, 3) == entry


def test_what_is_no_entry():
    for cell in ("talk.wav:0:7", "features.bin", "talks.zip:1:2", "features.bin:1", "features.bin:a:2"):
        assert parse_entry(cell) is None
    assert parse_entry("/a:b/features-00000.bin:12:7") == Entry("/a:b/features-00000.bin", 12, 7)


def test_an_unfinished_shard_leaves_nothing(tmp_path):
    path = tmp_path / "features-00000.bin"
    with ShardFile(path, "fp16", WIDTH) as file:
        file.append("a", np.zeros((2, WIDTH)))
    assert not list(tmp_path.iterdir())


def test_sizes_are_written_for_people():
    assert [size_text(n) for n in (368_640_000, 1_500, 2.5e12)] == ["368.6 MB", "1.5 kB", "2.5 TB"]
