"""Training and generation from a feature store: no encoder, the same result, and never another encoder's features."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import finetune_arguments, generate, lines, pretrain, pretrain_arguments, train_here
from factories import save_tiny_hubert
from tiny_models import batch, build_stage1, build_stage2

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.feature_store import parse_entry
from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError, sentence_of
from sparqle_fairseq.models.encoders.registry import load_speech_encoder
from sparqle_fairseq.models.encoders.stored_features import FeatureReader
from sparqle_fairseq.models.identity import check_identity
from sparqle_fairseq.tasks.loading import load_trained
from sparqle_fairseq.tools.extract.plan import source_of

SPLITS = ("train", "valid", "test", "train2", "dev2", "test_fr")


def extract(world, out: Path, *more, encoder=None, splits=SPLITS) -> SimpleNamespace:
    """The tiny world with features in place of audio, as the command makes them."""
    manifests = [world.data / f"{split}.tsv" for split in splits]
    words = ["extract-features", *manifests, "--speech-encoder", encoder or world.encoder, "--out", out, "--cpu", *more]
    assert main([str(word) for word in words]) == 0
    return SimpleNamespace(**{**vars(world), "data": out})


@pytest.fixture(scope="module")
def stores(world, tmp_path_factory):
    """The world's features in both precisions, in several shards."""
    root = tmp_path_factory.mktemp("stores")
    return {p: extract(world, root / p, "--dtype", p, "--shard-megabytes", 0.02) for p in ("fp16", "fp32")}


TOLERANCE = {"fp32": 1e-6, "fp16": 1e-3}
SHORT = ["--max-len-b", 6, "--beam", 1]  # a generation


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("build", [build_stage1, build_stage2])
def test_the_loss_is_that_from_audio(world, stores, build, precision):
    split = "train" if build is build_stage1 else "train2"
    losses = []
    for source in (world, stores[precision]):
        built = build(source)
        sample = batch(built, split, range(8))
        loss, size, _ = built.criterion(built.model, sample)
        losses.append(float(loss) / size)
    assert isinstance(built.model.speech_encoder, FeatureReader)
    assert losses[1] == pytest.approx(losses[0], rel=TOLERANCE[precision])


@pytest.fixture(scope="module")
def runs(world, stores, tmp_path_factory):
    """Both stages: from audio, and from a store while there is no encoder to be found."""
    root = tmp_path_factory.mktemp("runs")
    hidden = world.encoder.with_suffix(".hidden")
    # An epoch is one update: what is validated and saved after each of them is in no test.
    once = ["--dropout", 0, "--batch-size", 32, "--lr", 1e-4, "--disable-validation", "--save-interval", 9]
    done = {}
    for name, source in (("audio", world), ("fp32", stores["fp32"])):
        if name != "audio":
            world.encoder.rename(hidden)
        try:
            arguments = pretrain_arguments(source, root / name / "stage1", *once, updates=3)
            if name != "audio":
                place = arguments.index("--speech-encoder")
                del arguments[place : place + 2]
            train_here(arguments)
            started = ["--pretrained-adapter", root / name / "stage1" / "checkpoint_last.pt"]
            train_here(finetune_arguments(source, root / name / "stage2", *once, *started, updates=2))
        finally:
            if hidden.exists():
                hidden.rename(world.encoder)
        done[name] = root / name
    return done


def test_training_gives_the_checkpoint_that_audio_gives(runs):
    for stage in ("stage1", "stage2"):
        audio, stored = (
            torch.load(runs[name] / stage / "checkpoint_last.pt", weights_only=True)["model"]
            for name in ("audio", "fp32")
        )
        assert audio.keys() == stored.keys()
        for name in audio.keys() - {"frozen_identity"}:
            torch.testing.assert_close(stored[name], audio[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("stage", "task", "split"), [(1, "pretrain", "test"), (2, "finetune", "test_fr")])
def test_generation_gives_the_hypotheses_that_audio_gives(world, stores, runs, stage, task, split):
    """From the checkpoint that was trained on features, which knows its encoder: on audio, and on each store."""
    checkpoint = runs["fp32"] / f"stage{stage}" / "checkpoint_last.pt"
    found = {}
    for name, source in (("audio", world), *stores.items()):
        printed = generate(source, checkpoint, f"sparqle_{task}", split, *SHORT).stdout
        found[name] = {row: line.split("\t")[1] for row, line in lines(printed, "D").items()}
    assert len(found["audio"]) == 16
    assert found["fp32"] == found["audio"]
    assert found["fp16"] == found["audio"]


def test_a_checkpoint_from_features_is_used_with_the_real_encoder(world, runs, tmp_path):
    checkpoint = runs["fp32"] / "stage1" / "checkpoint_last.pt"
    trained = load_trained(checkpoint, cpu=True)
    assert not isinstance(trained.model.speech_encoder, FeatureReader)
    moved = tmp_path / "moved.pt"
    shutil.copy(world.encoder, moved)
    encoder = load_trained(checkpoint, speech_encoder=str(moved), cpu=True).model.speech_encoder
    wave = torch.sin(torch.arange(3200) / 10)[None]
    assert encoder(wave).values.shape == (1, 9, 32)


def test_the_same_encoder_at_another_place_is_taken(world, stores, tmp_path):
    """It is read and compared, since its path is not the store's."""
    shutil.copy(world.encoder, tmp_path / "copy.pt")
    source = SimpleNamespace(**{**vars(stores["fp32"]), "encoder": tmp_path / "copy.pt"})
    assert isinstance(build_stage1(source).model.speech_encoder, FeatureReader)


def test_the_layer_comes_from_the_store_unless_it_is_named(world, tmp_path):
    store = extract(world, tmp_path / "layer1", "--encoder-layer", 1, splits=("train", "valid"))
    arguments = pretrain_arguments(store, tmp_path / "run", "--num-workers", 0, updates=1)
    with pytest.raises(SparqleError, match="features of layer 1, and --encoder-layer is last; give --encoder-layer 1"):
        train_here(arguments)
    with pytest.raises(SparqleError, match="--encoder-layer is weighted; give --encoder-layer 1, or train from audio"):
        train_here([*arguments, "--encoder-layer", "weighted"])
    place = arguments.index("--speech-encoder")
    train_here([*arguments[:place], *arguments[place + 2 :]])
    options = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)["cfg"]["model"]
    assert (options["encoder_layer"], options["speech_encoder"]) == ("1", str(world.encoder))


def refused(arguments) -> str:
    with pytest.raises(Exception) as error:  # noqa: PT011
        train_here(arguments)
    sentence = sentence_of(error.value)
    assert sentence is not None, error.value
    assert "\n" not in sentence
    return sentence


def otherwise(world, tmp_path, how) -> tuple[Path, list]:
    """An encoder that differs from the world's in one thing, and options of the extraction."""
    path = tmp_path / "other.pt"
    if how == "encoder":
        save_tiny_hubert(path, seed=4)
    elif how == "normalisation":
        save_tiny_hubert(path, normalize=True)
    elif how == "rate":
        state = torch.load(world.encoder, weights_only=True)
        state["cfg"]["task"]["sample_rate"] = 8000
        torch.save(state, path)
    elif how == "width":
        save_tiny_hubert(path, width=48)
    else:
        return world.encoder, ["--encoder-layer", 1]
    return path, []


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("encoder", "fingerprint"),
        ("layer", "layer"),
        pytest.param("rate", "sample_rate", marks=pytest.mark.long),
        pytest.param("normalisation", "normalize", marks=pytest.mark.long),
        pytest.param("width", "width", marks=pytest.mark.long),
    ],
)
def test_features_of_another_encoder_are_refused(world, runs, tmp_path, how, named):
    """By a new run that names its encoder, and by stage 2 from a checkpoint of stage 1."""
    encoder, options = otherwise(world, tmp_path, how)
    store = extract(world, tmp_path / "store", *options, encoder=encoder, splits=("train", "valid", "train2", "dev2"))
    found = refused(pretrain_arguments(store, tmp_path / "run", updates=1))
    assert str(tmp_path / "store") in found
    assert f"{named} " in found or (how == "layer" and "--encoder-layer is last" in found)
    assert not (tmp_path / "run" / "checkpoint_last.pt").exists()
    checkpoint = runs["audio"] / "stage1" / "checkpoint_last.pt"
    first = "fingerprint" if how == "width" else named  # two things differ then
    with pytest.raises(SparqleError, match=f"was trained with another speech encoder: its {first} was") as error:
        build_stage2_from(store, checkpoint)
    assert f"whose features {tmp_path / 'store'} holds; give the speech encoder" in str(error.value)


@pytest.mark.parametrize(("how", "named"), [("rate", "sample_rate"), ("normalisation", "normalize")])
def test_what_an_encoder_reads_belongs_to_its_identity(world, tmp_path, how, named):
    """By which the features above are refused."""
    changed, _ = otherwise(world, tmp_path, how)
    own, other = (load_speech_encoder(str(path)).identity for path in (world.encoder, changed))
    with pytest.raises(SparqleError, match=f"another speech encoder: its {named} was"):
        check_identity({"speech encoder": own}, {"speech encoder": other})


def build_stage2_from(source, checkpoint):
    from tiny_models import build, stage2_arguments

    arguments = stage2_arguments(source)
    place = arguments.index("--speech-encoder")
    return build([*arguments[:place], *arguments[place + 2 :], "--pretrained-adapter", str(checkpoint)])


def test_generation_refuses_features_of_another_encoder(world, runs, tmp_path):
    save_tiny_hubert(tmp_path / "other.pt", seed=4)
    store = extract(world, tmp_path / "store", encoder=tmp_path / "other.pt", splits=("test",))
    checkpoint = runs["fp32"] / "stage1" / "checkpoint_last.pt"
    with pytest.raises(SparqleError, match="another speech encoder: its fingerprint was"):
        generate(store, checkpoint, "sparqle_pretrain", "test", *SHORT)


def test_an_encoder_that_changed_in_its_place_is_refused(world, tmp_path):
    """The path is the store's, the file is not: its time and size say so, and it is read."""
    encoder = tmp_path / "hubert.pt"
    shutil.copy(world.encoder, encoder)
    store = extract(world, tmp_path / "store", encoder=encoder, splits=("train", "valid"))
    save_tiny_hubert(encoder, seed=4)
    changed = SimpleNamespace(**{**vars(store), "encoder": encoder})
    assert "holds features of another speech encoder" in refused(pretrain_arguments(changed, tmp_path / "run"))


@pytest.fixture
def copied(stores, tmp_path):
    """A store of its own, for a test to break."""
    shutil.copytree(stores["fp32"].data, tmp_path / "store")
    return SimpleNamespace(**{**vars(stores["fp32"]), "data": tmp_path / "store"})


def first_entry(source):
    manifest = read_manifest(source.data / "train.tsv")
    return parse_entry(manifest.audio(0))


def test_a_flipped_byte_stops_training_with_one_sentence(copied, tmp_path):
    """Found by a loader process of the command."""
    entry = first_entry(copied)
    data = bytearray(Path(entry.shard).read_bytes())
    data[entry.offset + 7] ^= 16
    Path(entry.shard).write_bytes(data)
    done = pretrain(copied, tmp_path / "run", "--num-workers", 2, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0
    assert last.startswith("error: ")
    assert "the features are damaged, their checksum is" in last
    assert "Traceback" not in done.stderr


def test_a_missing_shard_stops_before_training(copied, tmp_path):
    Path(first_entry(copied).shard).unlink()
    found = refused(pretrain_arguments(copied, tmp_path / "run"))
    assert "this part of a feature store is missing" in found
    assert not (tmp_path / "run" / "checkpoint_last.pt").exists()
    task = build_stage1(copied).task
    with pytest.raises(SparqleError, match="this part of a feature store is missing"):
        task.load_dataset("train")  # before any utterance is read


def test_a_damaged_description_is_refused(copied, tmp_path):
    (copied.data / "encoder.json").write_text('{"identity": {}}')
    assert "encoder.json cannot be read as the description of a feature store" in refused(
        pretrain_arguments(copied, tmp_path / "run")
    )


def test_audio_beside_features_is_refused(world, copied, tmp_path):
    source = read_manifest(world.data / "valid.tsv")
    rows = [{column: source.text(column, i) for column in source.columns} for i in range(len(source))]
    write_manifest(copied.data / "valid.tsv", rows, source.columns)
    found = refused(pretrain_arguments(copied, tmp_path / "run"))
    assert "valid.tsv:2 (utterance valid_0-en)" in found
    assert "keep audio and features in folders of their own" in found


def test_data_folders_are_of_one_kind(world, stores, tmp_path):
    for folders in ((stores["fp32"].data, world.data), (world.data, stores["fp32"].data)):
        mixed = SimpleNamespace(**{**vars(world), "data": ":".join(map(str, folders))})
        found = refused(pretrain_arguments(mixed, tmp_path / "run"))
        assert f"{stores['fp32'].data} holds features and {world.data} does not" in found
    both = SimpleNamespace(**{**vars(world), "data": f"{stores['fp32'].data}:{stores['fp16'].data}"})
    build_stage1(both)
    save_tiny_hubert(tmp_path / "other.pt", seed=4)
    other = extract(world, tmp_path / "other", encoder=tmp_path / "other.pt", splits=("train", "valid"))
    both.data = f"{stores['fp32'].data}:{other.data}"
    assert f"{other.data} holds features of another speech encoder" in refused(
        pretrain_arguments(both, tmp_path / "run")
    )


def test_entries_in_a_manifest_elsewhere_are_those_of_its_encoder(world, stores, tmp_path):
    """A manifest of one's own that points into a store: the encoder is loaded, and must be the store's."""
    save_tiny_hubert(tmp_path / "other.pt", seed=4)
    for name in ("train", "valid"):
        stored = read_manifest(stores["fp32"].data / f"{name}.tsv")
        rows = [{column: stored.text(column, i) for column in stored.columns} for i in range(len(stored))]
        write_manifest(tmp_path / f"{name}.tsv", rows, stored.columns)
    here = SimpleNamespace(**{**vars(world), "data": tmp_path})
    built = build_stage1(here)
    assert not isinstance(built.model.speech_encoder, FeatureReader)
    assert batch(built, "train", [0])["net_input"]["source"].shape[2] == 32
    here.encoder = tmp_path / "other.pt"
    assert f"{stores['fp32'].data} holds features of another" in refused(pretrain_arguments(here, tmp_path / "run"))


def test_waveforms_do_not_pass_a_store(stores):
    with pytest.raises(SparqleError, match="for which no speech encoder is loaded, and a waveform came"):
        build_stage1(stores["fp32"]).model.encode_speech(torch.zeros(1, 800), torch.zeros(1, 800, dtype=torch.bool))


def test_an_old_checkpoints_identity_lacks_what_is_new():
    """Before sample_rate and normalize were part of it: what was not known then is not compared."""
    old = {"speech encoder": {"path": "a", "width": 32, "layer": "last"}}
    new = {"speech encoder": {"path": "b", "width": 32, "layer": "last", "sample_rate": 16000, "normalize": True}}
    check_identity(old, new)


def test_sources_are_named_alike():
    assert source_of("/a/./b/../c.wav:1:2") == "/a/c.wav:1:2"
