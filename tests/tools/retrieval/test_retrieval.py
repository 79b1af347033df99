"""Speech-text retrieval: the maths on hand-made similarities, and the command on a stage-1 checkpoint."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from commands import command, finetune_arguments, pretrain_arguments, train_here
from hypothesis import given, settings
from hypothesis import strategies as st

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.ranking import best_ranks, chance_of, retrieval_scores
from sparqle_fairseq.tools.retrieval import evaluate_retrieval, similarity_matrix


def test_a_rank_counts_what_is_more_similar_and_ties_count_against_the_model():
    similarities = np.array([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.2, 0.2, 0.2]])
    assert best_ranks(similarities, np.eye(3, dtype=bool)).tolist() == [1, 3, 3]


def test_the_best_of_several_that_belong_counts_and_the_others_are_no_rivals():
    similarities = np.array([[0.3, 0.9, 0.5, 0.6]])
    assert best_ranks(similarities, np.array([[True, False, True, False]])).tolist() == [3]
    assert best_ranks(similarities, np.array([[True, True, False, False]])).tolist() == [1]


def test_recall_its_interval_and_chance():
    similarities = np.eye(40)
    similarities[30:] = -similarities[30:]  # ten queries put their own last
    found = retrieval_scores(similarities, np.eye(40, dtype=bool), (1, 10, 40))
    assert [recall.value for recall in found.recall] == [75, 75, 100]
    assert [recall.chance for recall in found.recall] == pytest.approx([2.5, 25, 100])
    first = found.recall[0]
    assert 55 < first.low < 66 < 84 < first.high < 93  # 75 +- 1.96 sqrt(0.75 * 0.25 / 40)
    assert (found.recall[2].low, found.recall[2].high) == (100, 100)
    assert (found.queries, found.candidates, found.median_rank) == (40, 40, 1)


def test_the_interval_is_that_of_the_seeds_resamples():
    """Where the own candidate comes first in the even queries only, recall@1 of a resample is its share of those."""
    similarities = np.where(np.eye(9, dtype=bool), np.arange(9)[:, None] % 2 == 0, 0.5)
    (found,) = retrieval_scores(similarities, np.eye(9, dtype=bool), (1,), resamples=200, seed=7).recall
    drawn = np.random.default_rng(7).integers(9, size=(200, 9))
    low, high = np.percentile(100 * (drawn % 2 == 0).mean(axis=1), [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high))
    (again,) = retrieval_scores(similarities, np.eye(9, dtype=bool), (1,), resamples=200, seed=8).recall
    assert (again.low, again.high) != (found.low, found.high) or again.value == found.value


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_chance_is_what_random_similarities_reach(k, candidates, seed):
    rng = np.random.default_rng(seed)
    belongs = np.repeat([np.arange(candidates) < rng.integers(1, candidates + 1)], 4000, axis=0)
    hits = best_ranks(rng.random(belongs.shape), belongs) <= k
    assert abs(100 * hits.mean() - chance_of(belongs, k)) < 4.5  # more than five standard deviations


@pytest.fixture(scope="module")
def learned(world, tmp_path_factory):
    """A checkpoint that has learned the contrastive loss, and manifests of it. After 60 updates it had hardly begun."""
    save_dir = tmp_path_factory.mktemp("retrieval")
    weights = ["--objective", "stc", "--query-start", "monotonic"]
    more = ["--train-subset", "train", "--valid-subset", "test", "--disable-validation", "--dropout", 0]
    more += ["--save-interval", 1000]
    train_here(pretrain_arguments(world, save_dir, *weights, *more, updates=150))
    tiny.write_split(save_dir, "test", 12, seed=5)
    return SimpleNamespace(checkpoint=save_dir / "checkpoint_last.pt", folder=save_dir, manifest=save_dir / "test.tsv")


def rewrite(learned, name, change):
    manifest = read_manifest(learned.manifest)
    rows = [manifest.row(i) for i in range(len(manifest))]
    cells = [
        change(i, {"id": row.id, "audio": row.audio, "n_frames": row.n_frames, "src_text": row.src_text})
        for i, row in enumerate(rows)
    ]
    write_manifest(learned.folder / f"{name}.tsv", cells, ("id", "audio", "n_frames", "src_text"))
    return learned.folder / f"{name}.tsv"


def test_the_command_prints_scores_that_a_trained_model_reaches_and_its_control_does_not(learned):
    done = command(
        "sparqle", "retrieval", learned.manifest, "--model", learned.checkpoint, "--cpu", "--json", "--at", "1,3"
    )
    report = json.loads(done.stdout)
    manifest = read_manifest(learned.manifest)
    texts = [manifest.row(i).src_text for i in range(len(manifest))]
    first, third = report["speech_to_text"]["recall"]
    assert report["speech_to_text"]["queries"] == len(texts)
    assert report["text_to_speech"]["queries"] == report["speech_to_text"]["candidates"] == len(set(texts))
    assert first["low"] <= first["value"] <= first["high"]
    assert third["value"] >= first["value"] > 2 * first["chance"]
    assert report["text_to_speech"]["recall"][1]["value"] > report["text_to_speech"]["recall"][1]["chance"]
    speech = [{"audio": manifest.row(i).audio, "n_frames": manifest.row(i).n_frames} for i in range(len(manifest))]
    shift = next(s for s in range(1, 12) if all(a != b for a, b in zip(texts, texts[s:] + texts[:s], strict=True)))
    control = rewrite(learned, "control", lambda i, row: row | speech[i - shift])
    shuffled = evaluate_retrieval(control, learned.checkpoint, ks=(1, 3), cpu=True)
    assert shuffled.speech_to_text.recall[1].value < third["value"]


def test_the_table_names_both_directions(learned, capsys):
    assert main(["retrieval", str(learned.manifest), "--model", str(learned.checkpoint), "--cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("speech to text") == printed.count("text to speech") == 2
    assert "[" in printed
    assert "ties:against" in printed


def test_similarities_do_not_depend_on_the_batch(learned):
    from sparqle_fairseq.tasks.loading import load_trained

    trained = load_trained(learned.checkpoint, cpu=True)
    trained.task.cfg.data = str(learned.folder)
    trained.task.load_dataset("test", task_cfg=trained.cfg.task)
    alone, belongs = similarity_matrix(trained.model, trained.task.dataset("test"), 1)
    together, _ = similarity_matrix(trained.model, trained.task.dataset("test"), 12)
    assert np.abs(alone - together).max() < 1e-5
    assert np.abs(alone).max() <= 1.0001
    assert (belongs.sum(axis=1) == 1).all()


def test_what_cannot_be_scored_is_one_sentence(world, learned, tmp_path, capsys):
    def refused(manifest, message, model=learned.checkpoint, **options):
        with pytest.raises(SparqleError, match=message):
            evaluate_retrieval(manifest, model, cpu=True, **options)

    refused(tmp_path / "none.tsv", "no such file")
    refused(
        rewrite(learned, "empty", lambda i, row: row | {"src_text": "" if i == 3 else "x"}),
        "empty.tsv:5 .*no transcript",
    )
    refused(rewrite(learned, "same", lambda _, row: row | {"src_text": "red"}), "two different ones")
    refused(learned.manifest, "give numbers from 1", ks=(0,))
    train_here(finetune_arguments(world, tmp_path / "stage2", "--pretrained-adapter", learned.checkpoint, updates=1))
    refused(learned.manifest, "of stage 2, which has no text branch", model=tmp_path / "stage2" / "checkpoint_last.pt")
    assert main(["retrieval", str(learned.manifest), "--model", str(learned.checkpoint), "--at", "1,zero"]) == 2
    assert "1,10" in capsys.readouterr().err
