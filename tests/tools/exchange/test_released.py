"""Published layouts: there and back without a changed bit, the frozen parts inside, files larger than the memory."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from factories import save_tiny_hubert, save_tiny_hugging_face
from transformers import AutoModelForCausalLM, BertTokenizerFast, HubertModel, LlamaConfig, LlamaForCausalLM

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders.registry import read_network
from sparqle_fairseq.tasks.loading import load_trained
from sparqle_fairseq.tools.exchange import frozen_parts

GOLDEN = Path(os.environ.get("SPARQLE_GOLDEN", Path(__file__).parents[2] / "data" / "golden"))
OLD_SPELLING = {"original0": "weight_g", "original1": "weight_v"}


def sparqle(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def model_of(path):
    """The tensors of a published file of either layout, or of a checkpoint."""
    state = torch.load(path, weights_only=True)
    return state.get("model", state)


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


@pytest.fixture(scope="module")
def sizes():
    arrays = np.load(GOLDEN / "io.npz")
    return {name: int(arrays[name]) for name in arrays.files if name.startswith("cfg_")}


@pytest.fixture(scope="module")
def parts(sizes, tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    save_tiny_hubert(root / "hubert.pt", width=sizes["cfg_encoder_width"])
    save_tiny_hugging_face(root / "hf", hidden_size=sizes["cfg_encoder_width"], normalize=False)
    save_tiny_hugging_face(root / "other", hidden_size=sizes["cfg_encoder_width"], normalize=False, seed=5)
    llm_width = model_of(GOLDEN / "weights_stage2.pt")["llama_proj.weight"].size(0)
    tiny.save_llm(root / "llm", width=llm_width)
    tiny.save_llm(root / "other_llm", width=llm_width, seed=5)
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    words += [f"word{i}" for i in range(sizes["cfg_vocab_size"] - 1 - len(words))]  # [DEC] comes behind them
    (root / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(root / "vocab.txt")).save_pretrained(root / "tokenizer")
    return root


def bring_in(parts, sizes, file, output, *more, encoder="hubert.pt", llm="llm"):
    words = ["import", file, "-o", output, "--heads", sizes["cfg_num_heads"], "--speech-encoder", parts / encoder]
    stage1 = "temp" in model_of(file)
    words += ["--text-tokenizer", parts / "tokenizer"] if stage1 else ["--llm", parts / llm, "--llm-dtype", "fp32"]
    return sparqle(*words, *more)


def written(path, stage=2, change=None, place="model", **extra):
    """A golden file, changed and stored anew."""
    tensors = dict(model_of(GOLDEN / ("weights_stage2.pt" if stage == 2 else "weights.pt")))
    if change is not None:
        tensors = change(tensors)
    torch.save({place: tensors, **extra} if place else tensors, path)
    return path


def renamed(old, new):
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


def hugging_face_stage2(tensors):
    """What the authors' Hugging Face trainer saves: a linear layer for ln_speech, a norm after the projector."""
    hidden = tensors["query_tokens"].size(2)
    width = tensors.pop("ln_speech.weight").size(0)
    del tensors["ln_speech.bias"]
    generator = torch.Generator().manual_seed(3)
    for name in list(tensors):
        if "crossattention.self" in name and name.endswith(("key.weight", "value.weight")):
            tensors[name] = torch.randn(hidden, hidden, generator=generator) * 0.2
    tensors["speech_proj_adapter.weight"] = torch.randn(hidden, width, generator=generator)
    tensors["speech_proj_adapter.bias"] = torch.randn(hidden, generator=generator)
    for leaf in ("weight", "bias"):
        tensors[f"llm_proj.{leaf}"] = tensors.pop(f"llama_proj.{leaf}")
        tensors[f"llm_proj_layer_norm.{leaf}"] = torch.randn(len(tensors["llm_proj.weight"]), generator=generator)
    return tensors


def classifier(norm):
    """Adds the domain classifier of the authors' Hugging Face trainer, whose public code has its BatchNorm left out."""

    def add(tensors):
        generator = torch.Generator().manual_seed(4)
        width = tensors["text_proj.weight"].size(0)
        shapes = {"d_fc1.weight": (100, width), "d_fc1.bias": (100,), "d_fc2.weight": (2, 100), "d_fc2.bias": (2,)}
        if norm:
            shapes |= {f"d_bn1.{leaf}": (100,) for leaf in ("weight", "bias", "running_mean", "running_var")}
        new = {f"domain_classifier.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        if norm:
            new["domain_classifier.d_bn1.num_batches_tracked"] = torch.tensor(7)
        return tensors | new

    return add


FILES = {
    "stage 1, domain classifier": {"stage": 1, "change": classifier(True)},
    "stage 1, domain classifier without BatchNorm": {"stage": 1, "change": classifier(False), "place": ""},
    "stage 1": {"stage": 1},
    "stage 1, stm_head, bare tensors": {"stage": 1, "change": renamed("itm_head", "stm_head"), "place": ""},
    "stage 2": {},
    "stage 2, llm_proj": {"change": renamed("llama_proj", "llm_proj")},
    "stage 2, Hugging Face trainer": {"change": hugging_face_stage2, "place": ""},
    "stage 2, model_state_dict": {"place": "model_state_dict"},
    "stage 2, half precision": {
        "change": lambda tensors: {n: v.half() if v.is_floating_point() else v for n, v in tensors.items()}
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_there_and_back_again_changes_no_bit(parts, sizes, tmp_path, kind):
    file = written(tmp_path / "in.pt", **FILES[kind])
    bring_in(parts, sizes, file, tmp_path / "x.pt")
    output = sparqle("import", "--reverse", tmp_path / "x.pt", "-o", tmp_path / "out.pt")
    assert "not in it" in output
    place = FILES[kind].get("place", "model")
    first, back = (torch.load(path, weights_only=True) for path in (file, tmp_path / "out.pt"))
    same(*((state[place] if place else state) for state in (first, back)))
    # And once more: what was written is a published file, whose adapter is the checkpoint's.
    bring_in(parts, sizes, tmp_path / "out.pt", tmp_path / "y.pt")
    same(model_of(tmp_path / "x.pt"), model_of(tmp_path / "y.pt"))


def test_the_cfg_of_what_is_written_is_that_of_fairseq(parts, sizes, tmp_path):
    bring_in(parts, sizes, GOLDEN / "weights_stage2.pt", tmp_path / "x.pt")
    sparqle("import", "--reverse", tmp_path / "x.pt", "-o", tmp_path / "out.pt", "--spelling", "llm")
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    assert "llm_proj.weight" in state["model"]
    assert "llama_proj.weight" not in state["model"]
    for section in ("model", "task"):
        assert isinstance(state["cfg"][section], argparse.Namespace)
    assert state["cfg"]["model"].num_query_token == sizes["cfg_num_queries"]
    assert state["cfg"]["model"].cross_attention_freq == sizes["cfg_cross_attention_freq"]
    sparqle("import", "--reverse", tmp_path / "x.pt", "-o", tmp_path / "bare.pt", "--layout", "huggingface")
    assert "query_tokens" in torch.load(tmp_path / "bare.pt", weights_only=True)


def test_a_new_checkpoint_goes_out_and_comes_back(world, tmp_path):
    """Trained here and never imported: no record of a published file."""
    from tiny_models import build, stage2_arguments

    built = build([*stage2_arguments(world), "--speech-entry", "linear", "--projector", "linear-norm"])
    options = {**vars(argparse.Namespace(**dict(built.cfg.model)))}
    options = {
        name: str(value) if not isinstance(value, int | float | bool | None) else value
        for name, value in options.items()
    }
    torch.save({"model": built.model.state_dict(), "cfg": {"model": options}}, tmp_path / "x.pt")
    sparqle("import", "--reverse", tmp_path / "x.pt", "-o", tmp_path / "out.pt")
    assert {"speech_proj_adapter.weight", "llm_proj_layer_norm.weight"} <= model_of(tmp_path / "out.pt").keys()
    words = ["--speech-encoder", world.encoder, "--llm", world.llm, "--llm-dtype", "fp32", "--heads", 4]
    sparqle("import", tmp_path / "out.pt", "-o", tmp_path / "y.pt", *words)
    same(built.model.state_dict(), model_of(tmp_path / "y.pt"))


def test_a_scaled_projector_is_published_as_the_linear_one_that_computes_the_same(world, tmp_path):
    from tiny_models import build, stage2_arguments

    built = build([*stage2_arguments(world), "--projector", "scaled"])
    projector = built.model.adapter.projector.eval()
    torch.nn.init.normal_(projector.bias)
    options = {
        name: value if isinstance(value, int | float | bool | None) else str(value)
        for name, value in dict(built.cfg.model).items()
    }
    torch.save({"model": built.model.state_dict(), "cfg": {"model": options}}, tmp_path / "x.pt")
    sparqle("import", "--reverse", tmp_path / "x.pt", "-o", tmp_path / "out.pt")
    published = model_of(tmp_path / "out.pt")
    hidden = torch.randn(3, projector.in_features)
    found = hidden @ published["llama_proj.weight"].T + published["llama_proj.bias"]
    torch.testing.assert_close(found, projector(hidden).detach())
    assert not [name for name in published if "spread" in name]


def test_the_hugging_face_stage_2_computes_what_its_trainer_does(parts, sizes, tmp_path):
    """Against the same formula written out: linear layer, queries, projector, LayerNorm."""
    file = written(tmp_path / "in.pt", change=hugging_face_stage2, place="")
    assert "--speech-entry linear --projector linear-norm" in bring_in(parts, sizes, file, tmp_path / "x.pt")
    adapter = load_trained(tmp_path / "x.pt", cpu=True).model.adapter
    stored = model_of(file)
    torch.manual_seed(0)
    speech, padding = torch.randn(2, 7, sizes["cfg_encoder_width"]), torch.zeros(2, 7, dtype=torch.bool)
    found, _ = adapter(speech, padding)
    # The Q-Former's layers are those of the golden outputs; here what stands before and behind them is checked.
    entered = speech @ stored["speech_proj_adapter.weight"].T + stored["speech_proj_adapter.bias"]
    key = adapter.qformer.layers[0].cross_attention.key
    memory = adapter.qformer.read_speech(speech, padding).key_values[0][0].transpose(1, 2).flatten(2)
    torch.testing.assert_close(memory, key(entered))
    hidden = adapter.qformer.query(adapter.qformer.read_speech(speech, padding)).hidden
    expected = hidden @ stored["llm_proj.weight"].T + stored["llm_proj.bias"]
    expected = torch.nn.functional.layer_norm(
        expected, expected.shape[-1:], stored["llm_proj_layer_norm.weight"], stored["llm_proj_layer_norm.bias"]
    )
    torch.testing.assert_close(found, expected)


REFUSED = {
    "monotonic queries": ("cfg", {"query_start": "monotonic"}, "--query-start monotonic"),
    "another part": ("model", {"adapter.layer_mix.logits": torch.zeros(2)}, "layer_mix"),
    "units": ("model", {"speech_encoder.embedding.weight": torch.zeros(2, 2)}, "speech_encoder.embedding"),
    "another model": ("model", None, "another model"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_published_model_lacks_is_not_written(parts, sizes, tmp_path, kind):
    where, change, expected = REFUSED[kind]
    bring_in(parts, sizes, GOLDEN / "weights_stage2.pt", tmp_path / "x.pt")
    state = torch.load(tmp_path / "x.pt", weights_only=True)
    target = state["cfg"]["model"] if where == "cfg" else state["model"]
    target.update(change) if change else target.pop("frozen_identity")
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(SparqleError, match=rf"x\.pt .*{expected}"):
        sparqle("import", "--reverse", tmp_path / "x.pt", "-o", tmp_path / "out.pt")
    assert not list(tmp_path.glob("out*"))


UNCLEAR = {
    "an untied head": ({"Qformer.cls.predictions.decoder.weight": 1.0}, "decoder.weight is not"),
    "other positions": ({"Qformer.bert.embeddings.position_ids": 1}, "does not count from 0"),
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_a_second_name_with_another_value_is_not_dropped_silently(parts, sizes, tmp_path, kind):
    change, expected = UNCLEAR[kind]

    def add(tensors):
        return tensors | {name: tensors[name] + value for name, value in change.items()}

    with pytest.raises(SparqleError, match=expected):
        bring_in(parts, sizes, written(tmp_path / "in.pt", 1, add), tmp_path / "x.pt")
    assert not list(tmp_path.glob("x.pt*"))


def test_both_entries_of_the_speech_are_refused_and_momentum_copies_are_named(parts, sizes, tmp_path):
    def both(tensors):
        hidden, width = tensors["query_tokens"].size(2), sizes["cfg_encoder_width"]
        return tensors | {"speech_proj_adapter.weight": torch.zeros(hidden, width)}

    with pytest.raises(SparqleError, match="nothing says which comes first"):
        bring_in(parts, sizes, written(tmp_path / "both.pt", 2, both), tmp_path / "x.pt")
    momentum = written(tmp_path / "m.pt", 1, lambda tensors: tensors | {"speech_proj_m.weight": torch.zeros(1)})
    with pytest.raises(SparqleError, match=r"speech_proj_m\.weight"):
        bring_in(parts, sizes, momentum, tmp_path / "x.pt")


# ---- frozen parts


def with_frozen(parts, spelling="new", encoder="hf", llm="llm", prefix="llm_model."):
    """Adds encoder and LLM, as a full published file holds them."""

    def add(tensors):
        inside = HubertModel.from_pretrained(parts / encoder).state_dict()
        for new, old in OLD_SPELLING.items() if spelling == "old" else ():
            inside = {name.replace(f"parametrizations.weight.{new}", old): value for name, value in inside.items()}
        words = AutoModelForCausalLM.from_pretrained(parts / llm).state_dict()
        tensors = tensors | {f"speech_encoder.{name}": value for name, value in inside.items()}
        return tensors | {f"{prefix}{name}": value for name, value in words.items()}

    return add


def full(path, parts, **how):
    """The full layout: optimizer state, Namespaces, numpy scalars, frozen weights."""
    return written(
        path,
        change=with_frozen(parts, **how),
        cfg={"model": argparse.Namespace(arch="x"), "task": argparse.Namespace(data="/x")},
        last_optimizer_state={"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        extra_state={"val_loss": np.float64(1.5), "best": np.float32(2), "epoch": np.int64(3)},
    )


@pytest.mark.parametrize(("spelling", "prefix"), [("new", "llm_model."), ("old", "llama_model.")])
@pytest.mark.parametrize("encoder", ["hf", "hubert.pt"])
def test_frozen_parts_that_are_the_given_ones_pass(parts, sizes, tmp_path, spelling, prefix, encoder):
    inside = "hf"
    if encoder == "hubert.pt":  # the same network in fairseq's names
        inside = "converted"
        if not (parts / inside).exists():
            sparqle("convert-hubert", parts / "hubert.pt", parts / inside)
    file = full(tmp_path / "full.pt", parts, spelling=spelling, prefix=prefix, encoder=inside)
    output = bring_in(parts, sizes, file, tmp_path / "x.pt", "--check-frozen", encoder=encoder)
    for note in ("the same speech encoder", "the same LLM", "bytes of frozen weights"):
        assert note in output
    assert (tmp_path / "x.pt").stat().st_size < file.stat().st_size / 2
    bring_in(parts, sizes, GOLDEN / "weights_stage2.pt", tmp_path / "y.pt", encoder=encoder)
    same(model_of(tmp_path / "x.pt"), model_of(tmp_path / "y.pt"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"encoder": "other"}, r"its speech encoder is not .*other: the largest difference of a weight is \d"),
        ({"llm": "other_llm"}, r"its LLM is not .*other_llm: the largest difference of a weight is \d"),
    ],
)
def test_other_frozen_parts_are_named_and_nothing_is_written(parts, sizes, tmp_path, given, expected):
    file = full(tmp_path / "full.pt", parts)
    with pytest.raises(SparqleError, match=expected):
        bring_in(parts, sizes, file, tmp_path / "x.pt", "--check-frozen", **{"encoder": "hf", **given})
    assert not list(tmp_path.glob("x.pt*"))


def test_the_difference_is_the_largest_one(monkeypatch):
    monkeypatch.setattr(frozen_parts, "_AT_A_TIME", 4)
    one = torch.arange(10.0).half()
    other = one.float().clone()
    assert frozen_parts.largest_difference(one, other) == 0
    other[7] += 3
    other[9] += 1
    assert frozen_parts.largest_difference(one, other) == 3
    other[0] = torch.nan
    assert frozen_parts.largest_difference(one, other) != frozen_parts.largest_difference(one, other)


@pytest.mark.parametrize("encoder", ["hf", "hubert.pt"])
def test_exported_parts_are_whole_models(parts, sizes, tmp_path, monkeypatch, encoder):
    monkeypatch.setattr(frozen_parts, "_SHARD_BYTES", 20_000)  # several shards
    inside = "converted" if encoder == "hubert.pt" else "hf"
    if encoder == "hubert.pt" and not (parts / inside).exists():
        sparqle("convert-hubert", parts / "hubert.pt", parts / inside)
    # The LLM inside is another one than the given, of the same shape: what is written must be what was inside.
    file = full(tmp_path / "full.pt", parts, spelling="old", llm="other_llm", encoder=inside)
    options = ["--export-speech-encoder", tmp_path / "encoder", "--export-llm", tmp_path / "words"]
    bring_in(parts, sizes, file, tmp_path / "x.pt", *options, encoder=encoder)
    assert len(list((tmp_path / "words").glob("*.safetensors"))) > 1
    expected, found = (AutoModelForCausalLM.from_pretrained(path) for path in (parts / "other_llm", tmp_path / "words"))
    same(expected.state_dict(), found.state_dict())
    trained = load_trained(tmp_path / "x.pt", llm=str(parts / "llm"), cpu=True)
    assert trained.model.llm.tokenizer is not None
    wave, lengths = torch.randn(1, 4000), [4000]
    networks = [read_network(path).eval() for path in (parts / encoder, tmp_path / "encoder")]
    features = [list(network.layers(wave, lengths))[-1] for network in networks]
    torch.testing.assert_close(*features, atol=1e-5, rtol=1e-5)
    with pytest.raises(SparqleError, match="exists already"):
        bring_in(parts, sizes, file, tmp_path / "z.pt", *options, encoder=encoder)


def test_what_is_not_inside_cannot_be_compared_or_exported(parts, sizes, tmp_path):
    plain = GOLDEN / "weights_stage2.pt"
    with pytest.raises(SparqleError, match="leave --check-frozen out"):
        bring_in(parts, sizes, plain, tmp_path / "x.pt", "--check-frozen")
    with pytest.raises(SparqleError, match="holds no LLM; leave --export-llm out"):
        bring_in(parts, sizes, plain, tmp_path / "x.pt", "--export-llm", tmp_path / "out")

    def cut(tensors):
        tensors = with_frozen(parts)(tensors)
        return {name: value for name, value in tensors.items() if "llm_model.model.norm" not in name}

    file = written(tmp_path / "cut.pt", change=cut)
    with pytest.raises(SparqleError, match=r"lacks 1 tensors .*model\.norm\.weight"):
        bring_in(parts, sizes, file, tmp_path / "x.pt", "--export-llm", tmp_path / "out", encoder="hf")
    assert not [*tmp_path.glob("x.pt*"), *tmp_path.glob("out*")]


MEASURE = """
import sys, runpy
def anonymous():
    return sum(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon")) / 1024
def peak():
    return sum(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) / 1024
import threading, time
worst = [0.0]
def watch():
    while True:
        worst[0] = max(worst[0], anonymous()); time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
from sparqle_fairseq.cli.main import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    print("ANON", worst[0], file=sys.stderr)
"""


def anonymous_megabytes(*words):
    """Largest private memory of a command, page cache left out."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, words)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stderr.split("ANON")[1].split()[0])


@pytest.mark.long
def test_a_file_of_gigabytes_is_not_copied_into_memory(parts, sizes, tmp_path):
    """1.5 GB of frozen LLM: import, comparison and export take no more private memory than a small file's import."""
    config = LlamaConfig(
        hidden_size=model_of(GOLDEN / "weights_stage2.pt")["llama_proj.weight"].size(0), intermediate_size=400_000,
        num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2, vocab_size=400,
    )  # fmt: skip
    folder = tmp_path / "llm"
    shutil.copytree(parts / "llm", folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    words = LlamaForCausalLM(config)
    words.save_pretrained(folder)
    tensors = model_of(GOLDEN / "weights_stage2.pt") | {f"llm_model.{n}": v for n, v in words.state_dict().items()}
    file = tmp_path / "big.pt"
    torch.save({"model": tensors}, file)
    del words, tensors
    assert file.stat().st_size > 1.5e9
    common = ["--heads", sizes["cfg_num_heads"], "--speech-encoder", parts / "hubert.pt", "--llm-dtype", "fp32"]
    common += ["--llm", folder]
    try:
        small = anonymous_megabytes("import", GOLDEN / "weights_stage2.pt", "-o", tmp_path / "s.pt", *common)
        plain = anonymous_megabytes("import", file, "-o", tmp_path / "x.pt", *common)
        checked = anonymous_megabytes("import", file, "-o", tmp_path / "y.pt", *common, "--check-frozen")
        out = anonymous_megabytes("import", file, "-o", tmp_path / "z.pt", *common, "--export-llm", tmp_path / "out")
        print(f"private memory in MB: small file {small}, 1.5 GB {plain}, compared {checked}, exported {out}")
        for found in (plain, checked, out):
            assert found < small + 150
        assert (tmp_path / "x.pt").stat().st_size < 2e6
    finally:
        file.unlink()
