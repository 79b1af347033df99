"""Sampling: shares follow temperature and ratio, rows come evenly, an epoch depends on seed and epoch alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny
from commands import TINY, finetune_arguments, pretrain_arguments, train_here
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import build_stage1

from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.data.sampling import Group, Sampler, SamplingOptions
from sparqle_fairseq.errors import SparqleError


def manifest(folder: Path, name: str, **rows: int):
    """`fr=60` are 60 rows of that target language; en is transcription."""
    made = [
        {"id": f"{name}-{language}-{i}", "audio": "x.wav", "n_frames": 16000, "src_lang": "en", "tgt_lang": language}
        for language, count in rows.items()
        for i in range(count)
    ]
    write_manifest(folder / f"{name}.tsv", made, ("id", "audio", "n_frames", "src_lang", "tgt_lang"))
    return read_manifest(folder / f"{name}.tsv")


def languages(drawn: np.ndarray, *manifests) -> Counter:
    rows = [language for one in manifests for language in (one.text("tgt_lang", i) for i in range(len(one)))]
    return Counter(rows[i] for i in drawn)


def sampler(manifests, temperature: float = 1.0, by: str = "tgt_lang", ratio: str | None = None, seed: int = 1):
    options = SamplingOptions.parse(temperature, by, ratio)
    assert options is not None
    return Sampler(manifests, options, seed)


@pytest.mark.parametrize("temperature", [1.5, 2, 5, 1e6])
def test_shares_follow_the_temperature(tmp_path, temperature):
    rows = {"fr": 900, "de": 90, "it": 10}
    one = manifest(tmp_path, "a", **rows)
    drawn = languages(sampler([one], temperature).epoch(0), one)
    weights = {language: (count / 1000) ** (1 / temperature) for language, count in rows.items()}
    for language, weight in weights.items():
        assert drawn[language] == pytest.approx(1000 * weight / sum(weights.values()), abs=1)
    assert sum(drawn.values()) == 1000


def test_no_option_asks_for_each_row_once():
    assert SamplingOptions.parse(1.0, "tgt_lang", None) is None


def test_tasks_are_mixed_in_their_ratio_and_languages_levelled_inside(tmp_path):
    one = manifest(tmp_path, "a", en=500, fr=80, de=20)
    drawn = languages(sampler([one], 1.0, ratio="transcription=1,translation=2").epoch(0), one)
    assert drawn["en"] == 200
    assert drawn["fr"] == 320
    assert drawn["de"] == 80
    level = languages(sampler([one], 1e9, ratio="transcription=1,translation=2").epoch(0), one)
    assert [level[name] for name in ("en", "fr", "de")] == [200, 200, 200]


def test_a_task_of_weight_0_stays_out_and_does_not_lengthen_the_epoch(tmp_path):
    one = manifest(tmp_path, "a", en=500, fr=80)
    assert languages(sampler([one], 1.0, ratio="transcription=0,translation=1").epoch(0), one) == {"fr": 80}


def test_manifests_pairs_and_tasks_can_be_groups(tmp_path):
    big, small = manifest(tmp_path, "big", fr=90), manifest(tmp_path, "small", fr=10)
    drawn = sampler([big, small], 1e9, by="manifest").epoch(0)
    assert Counter((drawn >= 90).tolist()) == {True: 50, False: 50}
    assert [group.name for group in sampler([big], 2, by="src_lang,tgt_lang").groups] == ["en fr"]
    assert [group.name for group in sampler([big], 2, by="task").groups] == ["translation"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 130), st.integers(1, 12))
def test_rows_of_a_group_come_evenly_in_an_epoch_and_over_epochs(rows, quota, epochs):
    group = Group("fr", None, np.random.default_rng(0).permutation(rows), quota)
    over_all: Counter = Counter()
    for visit in range(epochs):
        drawn = Counter(group.epoch(visit).tolist())
        counts = [drawn[row] for row in range(rows)]
        assert sum(counts) == quota
        assert max(counts) - min(counts) <= 1
        assert min(counts) == quota // rows  # none of a repeated language is dropped
        over_all.update(drawn)
    every = [over_all[row] for row in range(rows)]
    assert max(every) - min(every) <= 1


def test_an_epoch_depends_on_seed_and_epoch_alone(tmp_path):
    one = manifest(tmp_path, "a", fr=50, de=7)
    draws = [sampler([one], 3, seed=seed).epoch(visit).tolist() for seed, visit in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert draws[0] != draws[3]


def test_turns_of_a_folder_are_counted_and_not_epochs(world, tmp_path):
    """With two folders every second epoch is a folder's: its parts of a large language still follow each other."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tiny.write_split(tmp_path / name, "train", 12, seed=1, languages=("en", "fr"))
    built = build_stage1(world, "--task-ratio", "transcription=3,translation=1")
    built.task.cfg.data = f"{tmp_path / 'a'}:{tmp_path / 'b'}"
    seen: list[Counter] = []
    for epoch in (1, 3, 5, 7):
        built.task.load_dataset("train", epoch=epoch)
        dataset = built.task.dataset("train")
        dataset.set_epoch(epoch)
        rows = dataset.ordered_indices()
        seen.append(Counter(dataset.row(i).id for i in rows if dataset.row(i).tgt_lang == "fr"))
    assert [sum(part.values()) for part in seen] == [6, 6, 6, 6]  # of 12
    assert set((seen[0] + seen[1]).values()) == {1}
    assert set(sum(seen, Counter()).values()) == {2}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((0.5, "tgt_lang", None), "--sampling-temperature 0.5"),
        ((float("nan"), "tgt_lang", None), "--sampling-temperature nan"),
        ((2, "language", None), "'language' is none of"),
        ((1, "tgt_lang", "translation"), "found 'translation'"),
        ((1, "tgt_lang", "translate=1"), "found 'translate=1'"),
        ((1, "tgt_lang", "translation=-1"), "found 'translation=-1'"),
        ((1, "tgt_lang", "translation=0"), "leaves no row"),
    ],
)
def test_wrong_options_are_one_sentence(arguments, found):
    with pytest.raises(SparqleError, match=re.escape(found)):
        SamplingOptions.parse(*arguments)


def test_a_ratio_of_a_task_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(SparqleError, match=r"asks for transcription, and .*a.tsv has no such row"):
        sampler([manifest(tmp_path, "a", fr=5)], ratio="transcription=1,translation=1")


def test_a_million_rows_are_grouped_in_seconds(tmp_path):
    import time

    lines = "".join(f"u{i}\tx.wav\t48000\ten\t{('fr', 'de', 'it')[i % 7 % 3]}\n" for i in range(1_000_000))
    (tmp_path / "m.tsv").write_text("id\taudio\tn_frames\tsrc_lang\ttgt_lang\n" + lines)
    one = read_manifest(tmp_path / "m.tsv")
    started = time.process_time()
    drawn = sampler([one], 5).epoch(0)
    assert time.process_time() - started < 5
    assert len(drawn) == 1_000_000


# ---- fairseq-train


def seen_batches(monkeypatch) -> list[list[int]]:
    """Rows of each training batch, in order, as the model's loss gets them."""
    from sparqle_fairseq.tasks.finetune import FinetuneTask

    batches: list[list[int]] = []
    original = FinetuneTask.train_step

    def train_step(self, sample, *args, **kwargs):
        batches.append(sample["id"].tolist())
        return original(self, sample, *args, **kwargs)

    monkeypatch.setattr(FinetuneTask, "train_step", train_step)
    return batches


def mixed(world) -> list:
    options = ["--task-ratio", "transcription=1,translation=3", "--required-batch-size-multiple", 1, "--seed", 3]
    options += ["--disable-validation", "--save-interval", 9]
    return ["--speech-encoder", world.encoder, *TINY, *options]


def test_training_draws_rows_by_the_ratio_and_resumes_among_them(world, tmp_path, monkeypatch):
    """train2 has 16 rows a task: an epoch of 32 is 8 of transcription and 24 of translation."""
    batches = seen_batches(monkeypatch)

    def train(folder: str, updates: int) -> list[list[int]]:
        batches.clear()
        train_here(finetune_arguments(world, tmp_path / folder, *mixed(world), updates=updates))
        return list(batches)

    whole = train("whole", 9)  # two epochs of 4 batches, and one batch
    first, second = (Counter(row for rows in whole[k : k + 4] for row in rows) for k in (0, 4))
    for epoch in (first, second):
        assert sum(epoch[row] for row in range(0, 32, 2)) == 8  # rows of train2 take turns: en, fr
        assert sum(epoch[row] for row in range(1, 32, 2)) == 24
    assert all((first + second)[row] == 1 for row in range(0, 32, 2))  # each transcription once in two epochs
    halves = train("halves", 6) + train("halves", 9)
    assert halves == whole


def test_the_log_has_the_table_once(world, tmp_path, caplog):
    """In the first of two epochs."""
    with caplog.at_level("INFO"):
        train_here(finetune_arguments(world, tmp_path / "a", *mixed(world), updates=5))
    assert "begin training epoch 2" in caplog.text.lower()
    assert caplog.text.count("rows of an epoch:") == 1
    assert re.search(r"16 +50\.0% +24 +75\.0% +1\.50 +fr translation", caplog.text)


# ---- data1:data2


def test_folders_take_turns_in_a_real_run_and_after_resuming_in_one(world, tmp_path, monkeypatch):
    """Epoch 1 is of the first folder, epoch 2 of the second; a run that resumes inside one goes on in that one."""
    from sparqle_fairseq.tasks.pretrain import PretrainTask

    for name, count, seed in (("a", 16, 1), ("b", 24, 2)):
        (tmp_path / name).mkdir()
        tiny.write_split(tmp_path / name, "train", count, seed=seed)
        tiny.write_split(tmp_path / name, "valid", 4, seed=3)
    utterances: list[list[int]] = []
    original = PretrainTask.train_step

    def train_step(self, sample, *args, **kwargs):
        utterances.append(sample["net_input"]["utterance"].tolist())
        return original(self, sample, *args, **kwargs)

    monkeypatch.setattr(PretrainTask, "train_step", train_step)

    def train(folder: str, updates: int) -> list[list[int]]:
        utterances.clear()
        more = ["--objective", "stc", "--disable-validation", "--save-interval", 9]
        arguments = pretrain_arguments(world, tmp_path / folder, *more, updates=updates)
        arguments[0] = f"{tmp_path / 'a'}:{tmp_path / 'b'}"
        train_here(arguments)
        return list(utterances)

    def keys(name: str) -> set[int]:
        from sparqle_fairseq.keyed_random import text_key

        return {text_key(one) for one in read_manifest(tmp_path / name / "train.tsv").ids()}

    # Both folders name their utterances train_0, …: those of b from 16 on are its alone.
    whole = train("whole", 2 + 3 + 2 + 1)
    sizes = [len(rows) for rows in whole]
    assert sizes == [8] * 8
    epochs = [[row for rows in whole[at : at + count] for row in rows] for at, count in ((0, 2), (2, 3), (5, 2))]
    assert set(epochs[0]) == set(epochs[2]) == keys("a")
    assert set(epochs[1]) == keys("b")
    assert epochs[0] != epochs[2]  # another order
    for middle in (3, 6):  # in the middle of b, and of a's second turn
        halves = train(f"halves{middle}", middle)
        halves += train(f"halves{middle}", 8)
        assert halves == whole, middle
