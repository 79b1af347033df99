"""`sparqle extract-units`: its units are the package's, and training reads them. Needs the extra `speechtokenizer`."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import tiny
import torch
from commands import TINY, command, train_arguments, train_here

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.data.units import read_units
from sparqle_fairseq.tools.extract.speech_tokenizer import SpeechTokenizer

UNITS = 16
# The keys of the released config.json that shape the network, with its strides: 320 samples a unit.
CONFIG = {
    "n_filters": 4, "strides": [8, 5, 4, 2], "dimension": 32, "semantic_dimension": 24, "bidirectional": True,
    "dilation_base": 2, "residual_kernel_size": 3, "n_residual_layers": 1, "lstm_layers": 2, "activation": "ELU",
    "sample_rate": 16000, "codebook_size": UNITS, "n_q": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A folder as released, with random weights and a first codebook that tells the tones apart; and the model."""
    pytest.importorskip("speechtokenizer", reason="pip install '.[speechtokenizer]'")
    from speechtokenizer import SpeechTokenizer as Network

    folder = tmp_path_factory.mktemp("speechtokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Network(CONFIG).eval()
        tones = torch.from_numpy(tiny.tones(" ".join(tiny.ENGLISH)))[None, None]
        with torch.no_grad():
            frames = model.encoder(tones)[0].T  # (T, W)
            first = model.quantizer.vq.layers[0]._codebook.embed
            first.copy_(frames[torch.linspace(0, len(frames) - 1, UNITS).long()])
            for layer in model.quantizer.vq.layers[1:]:
                layer._codebook.embed.normal_()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.save(model.state_dict(), folder / "SpeechTokenizer.pt")
    return SimpleNamespace(folder=folder, model=model)


@pytest.fixture
def extract(world, tmp_path, capfd):
    """Run the command here; returns what it wrote on stdout, or its error sentence where it fails."""

    def run(folder, *arguments, manifests=(world.data / "train.tsv",), out=tmp_path / "units"):
        words = ["extract-units", *manifests, "--speechtokenizer", folder, "--out", out, "--cpu", *arguments]
        status = main([str(word) for word in words])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return captured.out if status == 0 else captured.err.strip().splitlines()[-1]

    return run


def own_units(model, wave: np.ndarray) -> list[int]:
    """The first codebook as the package gives it among all of them."""
    with torch.no_grad():
        return model.encode(torch.from_numpy(wave)[None, None])[0, 0].tolist()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_units_are_the_packages_first_codebook_of_each_utterance_alone(
    world, tokenizer, extract, tmp_path, monkeypatch
):
    """Of recordings of several lengths; train2 has two rows for each of its recordings, which are heard once."""
    heard = []
    plain = SpeechTokenizer.units
    monkeypatch.setattr(SpeechTokenizer, "units", lambda self, wave: heard.append(len(wave)) or plain(self, wave))
    report = json.loads(
        extract(tokenizer.folder, "--json", manifests=[world.data / f"{n}.tsv" for n in ("train", "train2")])
    )
    different = set()
    for name in ("train", "train2"):
        manifest = read_manifest(tmp_path / "units" / f"{name}.tsv")
        source = read_manifest(world.data / f"{name}.tsv")
        assert [manifest.row(i) for i in range(len(manifest))] == [source.row(i) for i in range(len(source))]
        units = read_units(manifest.path, len(manifest), UNITS)
        for i in range(len(manifest)):
            wave = read_audio(manifest.audio(i))
            assert units[i].tolist() == own_units(tokenizer.model, wave)
            assert len(units[i]) == -(-len(wave) // 320)
            different.update(units[i].tolist())
    assert len(different) > UNITS // 2, "a tokenizer that says little would hide a mistake"
    assert names(tmp_path / "units") == ["train.km", "train.tsv", "train2.km", "train2.tsv"]
    assert (report["utterances"], report["recordings"]) == (64, 48)
    assert len(heard) == 48
    assert (report["vocabulary"], report["unit_rate"]) == (UNITS, 50)


def test_training_reads_what_the_command_wrote(world, tokenizer, tmp_path):
    """As a user does: the command in a process of its own, and the options that it names."""
    data = tmp_path / "units"
    done = command(
        "sparqle", "extract-units", world.data / "train.tsv", world.data / "valid.tsv", "--speechtokenizer",
        tokenizer.folder, "--out", data, "--cpu",
    )  # fmt: skip
    assert "DEBUG" not in done.stderr
    assert done.stdout == ""
    options = done.stderr.strip().splitlines()[-1].split("train on it with ")[1].split()
    assert options == ["--source", "units", "--unit-vocabulary", str(UNITS), "--unit-rate", "50"]
    train = [
        *train_arguments(SimpleNamespace(data=data), tmp_path / "run", updates=2), "--task", "sparqle_pretrain",
        "--arch", "sparqle_qformer_tiny", "--criterion", "sparqle_pretrain", "--text-tokenizer", world.tokenizer,
        *TINY, *options,
    ]  # fmt: skip
    train_here(train)
    state = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)
    assert state["model"]["speech_encoder.embedding.weight"].shape == (UNITS, 64)


def test_another_rate_and_five_milliseconds_are_heard(tokenizer, extract, tmp_path):
    wave = tiny.tones("red fox")
    soundfile.write(tmp_path / "slow.wav", wave, 8000)
    soundfile.write(tmp_path / "short.wav", wave[:80], 16000)
    rows = [
        {"id": "a", "audio": "slow.wav", "n_frames": 2 * len(wave)},
        {"id": "b", "audio": "short.wav", "n_frames": 80},
    ]
    write_manifest(tmp_path / "odd.tsv", rows, ("id", "audio", "n_frames"))
    extract(tokenizer.folder, manifests=[tmp_path / "odd.tsv"])
    units = read_units(tmp_path / "units" / "odd.tsv", 2, UNITS)
    assert units.lengths.tolist() == [2 * len(wave) // 320, 1]
    assert units[0].tolist() == own_units(tokenizer.model, read_audio(str(tmp_path / "slow.wav")))


def test_units_can_lie_beside_their_own_manifest(world, tokenizer, extract, tmp_path):
    shutil.copy(world.data / "train.tsv", tmp_path)
    before = (tmp_path / "train.tsv").read_bytes()
    more = ["--audio-root", world.data]
    extract(tokenizer.folder, *more, manifests=[tmp_path / "train.tsv"], out=tmp_path)
    assert (tmp_path / "train.tsv").read_bytes() == before
    assert names(tmp_path) == ["train.km", "train.tsv"]


def test_nothing_is_overwritten(world, tokenizer, extract, tmp_path):
    out = tmp_path / "units"
    for name in ("train.km", "train.tsv"):
        out.mkdir()
        (out / name).write_text("mine")
        assert f"{out / name}: exists already; remove it" in extract(tokenizer.folder)
        assert (out / name).read_text() == "mine"
        assert names(out) == [name]
        shutil.rmtree(out)
    twice = [world.data / "train.tsv", tmp_path / "train.tsv"]
    shutil.copy(*twice)
    assert "two of the manifests are called train.tsv" in extract(tokenizer.folder, manifests=twice)


def test_a_run_that_fails_leaves_no_half_file(world, tokenizer, extract, tmp_path):
    manifest = read_manifest(world.data / "train.tsv")
    rows = [{"id": manifest.id(i), "audio": manifest.audio(i), "n_frames": manifest.n_frames[i]} for i in range(3)]
    rows[2]["audio"] = "/no/such.wav"
    write_manifest(tmp_path / "train.tsv", rows, ("id", "audio", "n_frames"))
    message = extract(tokenizer.folder, manifests=[world.data / "valid.tsv", tmp_path / "train.tsv"])
    assert "/no/such.wav: there is no such file" in message
    assert names(tmp_path / "units") == ["valid.km", "valid.tsv"], "a finished split is kept"


def test_what_is_too_long_is_named_before_anything_is_heard(tokenizer, extract, tmp_path):
    message = extract(tokenizer.folder, "--max-seconds", "0.3")
    assert "found 0 seconds of audio, above 0.3" in message
    assert "train.tsv:" in message
    assert not (tmp_path / "units").exists()


class Trap:
    """Unpickled by a reader that trusts its file, it makes the file `sprung`."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self):
        return Path.touch, (self.sprung,)


def test_no_code_of_a_checkpoint_is_run(tokenizer, extract, tmp_path, monkeypatch):
    # With this setting torch.load, and so the package's own loader, runs what a file says.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    folder = tmp_path / "trap"
    shutil.copytree(tokenizer.folder, folder)
    torch.save({**tokenizer.model.state_dict(), "trap": Trap(tmp_path / "sprung")}, folder / "SpeechTokenizer.pt")
    assert "SpeechTokenizer.pt: is damaged, or holds more than tensors" in extract(folder)
    assert not (tmp_path / "sprung").exists()


def config(**values):
    return "config.json", json.dumps({**CONFIG, **values})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"config\.json: cannot be read \(No such file"),
        ("config.json", "{", r"config\.json: found no JSON"),
        ("config.json", '{"model_type": "hubert"}', "found no SpeechTokenizer, n_filters"),
        (*config(strides=[8, 0]), "found no SpeechTokenizer, strides missing or wrong"),
        (*config(activation="Nonsense"), r"no SpeechTokenizer can be built of it .*Nonsense"),
        (*config(codebook_size=17), r"codebook.* has shape \(16, 32\), not \(17, 32\)"),
        ("SpeechTokenizer.pt", None, r"SpeechTokenizer\.pt: there is no such file"),
        ("SpeechTokenizer.pt", "PK", r"SpeechTokenizer\.pt: is damaged"),
        ("SpeechTokenizer.pt", {"best": 1.0}, "found something else than the tensors"),
    ],
)
def test_what_is_no_speechtokenizer_is_one_sentence(tokenizer, extract, tmp_path, name, content, message):
    folder = tmp_path / "model"
    shutil.copytree(tokenizer.folder, folder)
    if content is None:
        (folder / name).unlink()
    elif isinstance(content, str):
        (folder / name).write_text(content)
    else:
        torch.save(content, folder / name)
    found = extract(folder)

    assert re.search(message, found), found
    assert found.startswith("error: ")
    assert not (tmp_path / "units").exists()


def test_without_the_package_the_sentence_says_how_to_get_it(extract, tmp_path, monkeypatch):
    ensure_torchaudio()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.save({}, folder / "SpeechTokenizer.pt")
    monkeypatch.setitem(sys.modules, "speechtokenizer", None)
    message = extract(folder)
    assert "needs the package speechtokenizer" in message
    assert message.endswith("pip install 'sparqle-fairseq[speechtokenizer]'")
    assert not (tmp_path / "units").exists()
