"""Damaged models and recordings, through the API and the commands: one sentence, nothing half-written, no code run."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface import SparqleForConditionalGeneration
from sparqle_fairseq.huggingface.asked import load_exported

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def sharded(tiny_hub, tmp_path_factory):
    """The model with encoder and LLM, in several files."""
    folder = tmp_path_factory.mktemp("sharded") / "model"
    model = SparqleForConditionalGeneration.from_pretrained(tiny_hub.folder)
    model.save_pretrained(folder, self_contained=True, max_shard_size="100KB")
    AutoProcessor.from_pretrained(tiny_hub.folder).save_pretrained(folder)
    return folder


@pytest.fixture
def talk(tiny_hub, tmp_path):
    soundfile.write(tmp_path / "talk.wav", tiny_hub.waves[0], 16000, subtype="FLOAT")
    return tmp_path / "talk.wav"


@pytest.fixture
def sparqle(capsys):
    """Runs a command: exit code and what it said on stderr."""

    def run(*words):
        code = main([str(word) for word in words])
        return code, capsys.readouterr().err

    return run


def refused(folder, *said):
    with pytest.raises(SparqleError) as caught:
        SparqleForConditionalGeneration.from_pretrained(folder)
    for part in said:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_in_several_files_is_the_same(tiny_hub, sharded, talk, tmp_path, sparqle):
    assert len(list(sharded.glob("*.safetensors"))) > 2
    one, other = (SparqleForConditionalGeneration.from_pretrained(place) for place in (tiny_hub.folder, sharded))
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())
    texts = []
    for number, folder in enumerate((tiny_hub.folder, sharded)):
        out = tmp_path / f"{number}.txt"
        words = ["translate", talk, "--to", "fr", "--hf", folder, "--segment", "none", "-o", out, "--cpu"]
        assert sparqle(*words, "--beam", 2, "--tokens-per-second", 5)[0] == 0
        texts.append(out.read_text(encoding="utf-8"))
    assert texts[0] == texts[1] != "\n"


def test_a_shard_that_is_missing_or_cut_is_named(sharded, talk, tmp_path, sparqle):
    folder = shutil.copytree(sharded, tmp_path / "model")
    shard = sorted(folder.glob("*.safetensors"))[1]
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    refused(folder, str(shard), "cannot be read")
    shard.unlink()
    refused(folder, str(shard), "it is not there")
    code, said = sparqle("translate", talk, "--to", "fr", "--hf", folder, "-o", tmp_path / "out.txt", "--cpu")
    assert (code, said.count("\n")) == (1, 1)
    assert f"{shard} cannot be read (it is not there)" in said
    assert not (tmp_path / "out.txt").exists()
    out = tmp_path / "back.pt"
    code, said = sparqle("import-hf", folder, "-o", out, "--speech-encoder", "x", "--llm", "y")
    assert (code, said.count("\n")) == (1, 1)
    assert str(shard) in said
    assert not list(tmp_path.glob("*back*"))


def test_a_tensor_that_is_missing_or_of_another_shape_is_not_drawn_at_random(sharded, tmp_path):
    folder = shutil.copytree(sharded, tmp_path / "model")
    table = json.loads((folder / INDEX).read_text())["weight_map"]
    name = "adapter.projector.weight"
    shard = folder / table[name]
    state = load_file(shard)
    save_file({**state, name: state[name][:-1].contiguous()}, shard, {"format": "pt"})
    refused(folder, f"the weights in {folder} do not fit its config.json")
    save_file({key: value for key, value in state.items() if key != name}, shard, {"format": "pt"})
    refused(folder, "lacks 1 tensors", name)


@pytest.mark.parametrize("content", ["{", "{}", '{"weight_map": {"a": "../there.safetensors"}}', '{"weight_map": {}}'])
def test_an_index_that_is_none_is_refused(sharded, tmp_path, content):
    folder = shutil.copytree(sharded, tmp_path / "model")
    (folder / INDEX).write_text(content)
    refused(folder, str(folder / INDEX))


def test_commands_say_what_is_wrong_with_a_folder_and_run_no_code_of_it(tiny_hub, talk, tmp_path, sparqle):
    code, said = sparqle("translate", talk, "--to", "fr", "--hf", tiny_hub.llm)
    assert (code, said) == (
        1,
        f"error: {tiny_hub.llm} holds a model of type 'llama', not a SparQLe model; give another folder\n",
    )
    code, said = sparqle("translate", talk, "--to", "fr", "--hf", tiny_hub.folder, "--llm", tmp_path / "nowhere")
    assert code == 1
    assert "nowhere" in said
    own = shutil.copytree(tiny_hub.folder, tmp_path / "model")
    (own / "modeling_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for file, key in (("config.json", "AutoConfig"), ("processor_config.json", "AutoProcessor")):
        content = json.loads((own / file).read_text())
        content["auto_map"] = {key: "modeling_own.Own", "AutoModelForMultimodalLM": "modeling_own.Own"}
        (own / file).write_text(json.dumps(content))
    words = ["translate", talk, "--to", "fr", "--hf", own, "--segment", "none", "--beam", 1, "--tokens-per-second", 2]
    assert sparqle(*words)[0] == 0
    code, said = sparqle("translate", talk, "--to", "klingonish", "--hf", own)
    assert (code, said.count("\n")) == (1, 1)
    assert "klingonish" in said
    for samples, expected in ((0, "found no samples in the file"), (80, "no speech was found")):
        soundfile.write(tmp_path / "short.wav", np.zeros(samples, np.float32), 16000)
        code, said = sparqle(*words[:1], tmp_path / "short.wav", *words[2:])
        assert f"short.wav: {expected}" in said
    assert not (tmp_path / "ran").exists()


def test_a_recording_of_which_a_part_is_lost_is_refused_unless_it_is_asked_for(tiny_hub, tmp_path, caplog):
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.tile(tiny_hub.waves[0], 6), 16000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    processor = AutoProcessor.from_pretrained(tiny_hub.folder)
    with pytest.raises(SparqleError, match=r"cut\.flac") as caught:
        processor.apply_translation_request(path, to="fr")
    assert "\n" not in str(caught.value)
    processor.strict_audio = False
    heard = processor.apply_translation_request(path, to="fr")["input_values_mask"].sum()
    assert 0 < heard < 6 * len(tiny_hub.waves[0])
    assert "cut.flac" in caplog.text
    processor.save_pretrained(tmp_path / "saved")
    assert AutoProcessor.from_pretrained(tmp_path / "saved").strict_audio is False
    assert AutoProcessor.from_pretrained(tiny_hub.folder, strict_audio=False).strict_audio is False


@pytest.mark.parametrize("kind", ["adapter", "sharded"])
def test_every_file_that_changes_what_is_written_is_missed(kind, tiny_hub, sharded, tmp_path):
    """Without it, or with half of it, transformers would go on with other prompts, ends or tokens."""
    source = tiny_hub.folder if kind == "adapter" else sharded
    for name in ("generation_config.json", "processor_config.json", "tokenizer_config.json", "chat_template.jinja"):
        for change in ("gone", "half", "garbage"):
            folder = shutil.copytree(source, tmp_path / f"{name}-{change}")
            data = (folder / name).read_bytes()
            (folder / name).unlink()
            if change != "gone":
                (folder / name).write_bytes(data[: len(data) // 2] if change == "half" else b"[]")
            with pytest.raises(SparqleError) as caught:
                load_exported(str(folder), cpu=True)
            assert "\n" not in str(caught.value)
            assert str(folder) in str(caught.value)
