"""Discrete units in place of audio: what is refused, what the model reads, and a whole run from clusters to text."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import QUIET, command, finetune_arguments, generate, lines, train_arguments, train_here
from tiny_models import batch, build, build_stage1, save_adapter, stage1_arguments, stage2_arguments

from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.units import UnitError, read_units
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders.unit_embedding import UnitEmbedding
from sparqle_fairseq.models.identity import IdentityError

CLUSTERS = 24
OPTIONS = ["--source", "units", "--unit-vocabulary", str(CLUSTERS)]
SMALL = [
    "--hidden-size", "64", "--layers", "2", "--heads", "4", "--ffn-size", "128", "--queries", "8",
    "--query-start", "monotonic", "--dropout", "0",
]  # fmt: skip


def clusters(frames: np.ndarray, count: int, rounds: int = 8) -> np.ndarray:
    """k-means centres (count, W) of frames (N, W)."""
    centres = frames[np.random.default_rng(0).choice(len(frames), count, replace=False)]
    for _ in range(rounds):
        nearest = assign(frames, centres)
        centres = np.stack(
            [frames[nearest == k].mean(axis=0) if (nearest == k).any() else centres[k] for k in range(count)]
        )
    return centres


def assign(frames: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((frames[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)


@pytest.fixture(scope="module")
def units(world, tmp_path_factory):
    """The world's manifests with the k-means clusters of the tiny encoder's features beside them, and no audio."""
    folder = tmp_path_factory.mktemp("units")
    built = build_stage1(world, "--encoder-layer", "1")
    features = {}
    for split in ("train", "valid", "test", "train2", "dev2", "test_fr"):
        shutil.copy(world.data / f"{split}.tsv", folder)
        built.task.load_dataset(split)
        rows = range(len(built.task.dataset(split)))
        features[split] = [
            built.model.encode_speech(*(batch(built, split, [i])["net_input"][n] for n in ("source", "padding_mask")))
            .values[0].numpy()
            for i in rows
        ]  # fmt: skip
    centres = clusters(np.concatenate(features["train"]), CLUSTERS)
    for split, rows in features.items():
        text = "".join(" ".join(map(str, assign(row, centres))) + "\n" for row in rows)
        (folder / f"{split}.km").write_text(text)
    return SimpleNamespace(**{**vars(world), "data": folder})


def arguments(units, *more):
    plain = stage1_arguments(units)
    place = plain.index("--speech-encoder")
    return [*plain[:place], *plain[place + 2 :], *OPTIONS, *more]


@pytest.fixture
def manifest(tmp_path, world):
    path = tmp_path / "train.tsv"
    path.write_text("".join((world.data / "train.tsv").read_text().splitlines(keepends=True)[:4]))
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2\n3\n", r"train\.km: found 2 lines for the 3 utterances of .*train\.tsv"),
        ("1 2\n3\n4\n5\n", r"train\.km: found 4 lines for the 3 utterances"),
        ("1 2\n\n4\n", r"train\.km:2: found an empty line"),
        ("1 2\n3 x7\n4\n", r"train\.km:2: found 'x7' where units are whole numbers"),
        ("1 2\n3 -1\n4\n", r"train\.km:2: found '-1'"),
        ("1 2\n3 1.5\n4\n", r"train\.km:2: found '1.5'"),
        ("1 2\n3 4\n4 24 5\n", r"train\.km:3: found unit 24, but --unit-vocabulary 24 ends at 23"),
        (None, r"train\.km: there is no such file"),
    ],
)
def test_a_bad_unit_file_is_refused_with_file_and_line(manifest, content, message):
    if content is not None:
        manifest.with_suffix(".km").write_text(content)
    with pytest.raises(UnitError, match=message) as error:
        read_units(manifest, 3, CLUSTERS)
    assert "\n" not in str(error.value)


def test_units_are_read_in_the_order_of_the_manifest(manifest):
    manifest.with_suffix(".km").write_text("5 5 5 2 5\n0 0\n23")
    plain, collapsed = (read_units(manifest, 3, CLUSTERS, collapse) for collapse in (False, True))
    assert [plain[i].tolist() for i in range(3)] == [[5, 5, 5, 2, 5], [0, 0], [23]]
    assert [collapsed[i].tolist() for i in range(3)] == [[5, 2, 5], [0], [23]]
    assert collapsed.lengths.tolist() == [3, 1, 1]


def test_the_dataset_gives_ids_and_reads_no_audio(units):
    assert not (units.data / "audio").exists()
    built = build(arguments(units))
    sample = batch(built, "train", range(4))["net_input"]
    dataset = built.task.dataset("train")
    assert sample["source"].dtype == torch.int64
    assert sample["source"].shape == sample["padding_mask"].shape == (4, max(dataset.sizes[:4]))
    expected = [list(map(int, line.split())) for line in (units.data / "train.km").read_text().splitlines()]
    for i in range(4):
        real = ~sample["padding_mask"][i]
        assert sample["source"][i][real].tolist() == expected[i]
    assert dataset.sizes.tolist() == [len(row) for row in expected]


def test_collapsed_units_are_another_source(units):
    plain, collapsed = build(arguments(units)), build(arguments(units, "--collapse-units"))
    shorter = [batch(built, "train", range(4))["net_input"]["source"].size(1) for built in (collapsed, plain)]
    assert shorter[0] < shorter[1]
    with pytest.raises(IdentityError, match="its collapsed was"):
        plain.model.load_state_dict(collapsed.model.state_dict())


def test_padding_changes_nothing(units):
    built = build(arguments(units))
    built.model.eval()
    sample = batch(built, "train", range(4))["net_input"]
    features = built.model.encode_speech(
        sample["source"].masked_fill(sample["padding_mask"], 7), sample["padding_mask"]
    )
    assert features.values[features.padding_mask].abs().sum() == 0
    for i in range(4):
        own = sample["source"][i : i + 1][:, ~sample["padding_mask"][i]]
        alone = built.model.encode_speech(own, torch.zeros_like(own, dtype=torch.bool)).values[0]
        assert torch.equal(features.values[i, : len(alone)], alone)


def test_the_embedding_learns_and_is_in_the_checkpoint(units):
    built = build(arguments(units))
    loss, _, _ = built.criterion(built.model, batch(built, "train", range(4)))
    loss.backward()
    weight = built.model.speech_encoder.embedding.weight
    assert weight.grad.abs().sum() > 0
    assert torch.equal(built.model.state_dict()["speech_encoder.embedding.weight"], weight)


def test_the_embedding_goes_on_to_stage2(units, tmp_path):
    stage1 = build(arguments(units, "--collapse-units"))
    with torch.no_grad():
        stage1.model.speech_encoder.embedding.weight.add_(1)  # away from what any new one starts as
    path = save_adapter(stage1, tmp_path / "stage1.pt")
    plain = build_stage2_arguments(units)
    for more in ([], ["--source", "units"]):
        built = build([*plain, "--pretrained-adapter", path, *more])
        weights = [model.speech_encoder.embedding.weight for model in (built.model, stage1.model)]
        assert torch.equal(*weights)
        assert built.model.speech_encoder.collapsed
        assert str(built.cfg.model.source) == "units", "the stage-2 checkpoint must know it too"


def build_stage2_arguments(units):
    plain = stage2_arguments(units)
    place = plain.index("--speech-encoder")
    return [*plain[:place], *plain[place + 2 :]]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--unit-vocabulary", "0"], "needs --unit-vocabulary"),
        (["--unit-rate", "0"], "--unit-rate 0 must be above 0"),
        (["--speech-encoder", "hubert.pt"], "reads no audio; leave --speech-encoder out"),
    ],
)
def test_options_that_do_not_fit_are_refused(units, more, message):
    with pytest.raises(SparqleError, match=message):
        build(arguments(units, *more))


def test_units_for_an_audio_checkpoint_are_refused(world, units, stage1, tmp_path):
    path = save_adapter(stage1, tmp_path / "audio.pt")
    with pytest.raises(SparqleError, match="was trained on audio"):
        build([*build_stage2_arguments(units), "--source", "units", "--pretrained-adapter", path])
    built = build_stage1(world)
    built.task.cfg.source = "units"
    with pytest.raises(SparqleError, match="the model was trained on audio"):
        built.task.load_dataset("test")


def test_audio_for_a_unit_model_is_refused():
    with pytest.raises(SparqleError, match="reads discrete units, not audio"):
        UnitEmbedding(4, 8)(torch.zeros(1, 400))


def test_speed_perturbation_of_units_is_refused(units):
    built = build(arguments(units, "--speed-perturb", "0.9,1.1"))
    with pytest.raises(SparqleError, match="--source units reads none"):
        built.task.load_dataset("train")


def test_windows_count_units(units):
    built = build(arguments(units, "--query-window-seconds", "0.1", "--queries-per-window", "2"))
    assert built.model.adapter.qformer.config.window_frames == 5
    sample = batch(built, "train", range(4))
    loss, _, _ = built.criterion(built.model, sample)
    assert loss.isfinite()


def test_from_clusters_to_text_through_the_commands(units, tmp_path):
    """Stage 1 learns its training sentences from units; stage 2 starts from it; both generate for every row."""
    first, second = tmp_path / "stage1", tmp_path / "stage2"
    common = train_arguments(units, first, updates=100)
    stage1 = [
        *common, "--task", "sparqle_pretrain", "--arch", "sparqle_qformer_tiny", "--criterion", "sparqle_pretrain",
        "--text-tokenizer", units.tokenizer, *SMALL, *OPTIONS, "--validate-interval", 1000, "--batch-size", 16,
        "--save-interval", 1000, "--objective", "stg",
    ]  # fmt: skip
    train_here(stage1)
    done = generate(units, first / "checkpoint_last.pt", "sparqle_pretrain", "train", "--scoring", "wer")
    manifest = read_manifest(units.data / "train.tsv")
    assert lines(done.stdout, "T") == {i: manifest.row(i).src_text for i in range(32)}
    rate = float(done.stdout.rsplit("WER: ", 1)[1].split()[0])
    assert rate < 40, done.stdout[-1500:]  # the commonest sentence for all is far above
    train_here(finetune_arguments(units, second, "--pretrained-adapter", first / "checkpoint_last.pt", updates=2))
    done = generate(units, second / "checkpoint_last.pt", "sparqle_finetune", "test_fr", "--source", "units")
    assert sorted(lines(done.stdout, "H")) == list(range(16))


def test_the_command_shows_one_sentence(units, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(units.data, data)
    text = (data / "train.km").read_text().splitlines(keepends=True)
    (data / "train.km").write_text("".join(text[:-1]))
    done = command(
        "fairseq-train", data, *QUIET, "--save-dir", tmp_path / "run", "--task", "sparqle_pretrain",
        "--arch", "sparqle_qformer_tiny", "--criterion", "sparqle_pretrain", "--text-tokenizer", units.tokenizer,
        *OPTIONS, "--optimizer", "adam", "--batch-size", 8, check=False,
    )  # fmt: skip
    assert done.returncode
    assert "Traceback" not in done.stderr
    assert f"train.km: found 31 lines for the 32 utterances of {data}/train.tsv" in done.stderr
