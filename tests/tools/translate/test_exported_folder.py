"""`sparqle translate --hf`: an exported folder gives what its checkpoint gives."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import tiny
from factories import save_tiny_hugging_face
from omegaconf import OmegaConf
from tiny_models import build_stage1, build_stage2, build_stage2_from, save_adapter, stir

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface.asked import load_exported
from sparqle_fairseq.tasks.loading import load_trained
from sparqle_fairseq.tools.exchange.export_hf import export_hf
from sparqle_fairseq.tools.exchange.released import checkpoint_state, save
from sparqle_fairseq.tools.page.model import load_checkpoint
from sparqle_fairseq.tools.translate.loaded import open_model
from sparqle_fairseq.tools.translate.translator import Settings, Target, Translator

TARGETS = [Target("translation", "fr"), Target("translation", "de"), Target("transcription", "en")]
SEGMENTS = [Segment(16000 * i, tiny.tones(text, seed=i)) for i, text in enumerate(["red fox", "dog sleeps blue"])]
QUICK = {"tokens_per_second": 8.0, "guard": False}
SEARCHES = {
    "greedy": Settings(beam=1, **QUICK),
    "beam": Settings(beam=4, lenpen=0.6, no_repeat_ngram_size=2, repetition_penalty=1.2, **QUICK),
    "n-best": Settings(beam=4, nbest=4, mbr=True, flag_unheard=True, **QUICK),
    "sampling": Settings(beam=2, sampling=True, temperature=1.3, top_k=20, seed=5, nbest=2, **QUICK),
    "seed of the training": Settings(beam=1, sampling=True, top_p=0.9, **QUICK),
    "prefix": Settings(beam=2, prefix="le", stop=("a",), **QUICK),
    "guard": Settings(beam=1, tokens_per_second=30),
}


@pytest.fixture(scope="module")
def here(world, tmp_path_factory):
    """The world with an encoder that transformers can read."""
    encoder = tmp_path_factory.mktemp("encoder") / "hubert"
    save_tiny_hugging_face(encoder, "hubert", normalize=False)
    return SimpleNamespace(**{**vars(world), "encoder": encoder})


def written(built, folder):
    """Places of a model's checkpoint and its export."""
    cfg = OmegaConf.to_container(built.cfg, resolve=True, enum_to_str=True)
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "there.pt", checkpoint_state(cfg, built.model.state_dict(), {}))
    export_hf(folder / "there.pt", folder / "model")
    return SimpleNamespace(checkpoint=folder / "there.pt", folder=folder / "model")


@pytest.fixture(scope="module")
def exported(here, tmp_path_factory):
    return written(build_stage2(here, "--seed", "3", "--src-lang", "de"), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def both(exported):
    return load_trained(exported.checkpoint, cpu=True), load_exported(str(exported.folder), cpu=True)


def texts_of(loaded, settings):
    return Translator(loaded, settings)(SEGMENTS, TARGETS)


@pytest.mark.parametrize("search", SEARCHES)
def test_the_folder_gives_the_texts_of_its_checkpoint(search, both):
    of_checkpoint, of_folder = (texts_of(loaded, SEARCHES[search]) for loaded in both)
    assert of_folder == of_checkpoint
    assert len({text.text for row in of_folder for text in row}) > 1


def test_seed_language_and_names_are_those_of_the_training(both):
    trained, found = both
    assert found.task.seed == 3
    assert found.spoken == trained.spoken == "de"
    assert found.parts == trained.parts


KINDS = {
    "lora": ["--lora-rank", "4", "--lora-target", "all-linear"],
    "windows": ["--query-window-seconds", "0.1", "--queries-per-window", "2", "--encoder-layer", "weighted"],
    "transcript first": ["--answer", "transcript-first", "--projector", "mlp"],
    "soft tokens": ["--compress-queries", "--soft-tokens"],
    "bf16": ["--llm-dtype", "bf16"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_gives_the_same_texts(kind, here, tmp_path):
    if kind == "soft tokens":
        first = save_adapter(build_stage1(here, "--objective", "llm-ctc", "--llm", str(here.llm)), tmp_path / "1.pt")
        built = build_stage2_from(here, first, *KINDS[kind])
        stir(built.model, 1.5)
    else:
        built = build_stage2(here, *KINDS[kind])
    places = written(built, tmp_path)
    trained, found = load_trained(places.checkpoint, cpu=True), load_exported(str(places.folder), cpu=True)
    assert found.model.llm.frozen.dtype == trained.model.llm.frozen.dtype
    assert texts_of(found, SEARCHES["beam"]) == texts_of(trained, SEARCHES["beam"])
    if kind == "lora":
        without = [load_trained(places.checkpoint, without_lora=True, cpu=True)]
        without += [load_exported(str(places.folder), without_lora=True, cpu=True)]
        one, other = (texts_of(loaded, SEARCHES["beam"]) for loaded in without)
        assert one == other


def test_a_folder_with_encoder_and_llm_inside_gives_the_same_texts(exported, both, tmp_path):
    export_hf(exported.checkpoint, tmp_path / "all", self_contained=True)
    found = load_exported(str(tmp_path / "all"), cpu=True)
    assert texts_of(found, SEARCHES["beam"]) == texts_of(both[0], SEARCHES["beam"])


@pytest.mark.parametrize("form", ["txt", "srt", "vtt", "tsv", "json"])
def test_the_command_writes_the_same_files(form, exported, speech, tmp_path):
    files = {}
    for option, place in (("--model", exported.checkpoint), ("--hf", exported.folder)):
        out = tmp_path / option
        words = ["translate", speech, "--to", "fr,de", option, place, "--format", form, "-o", out, "--cpu"]
        words += ["--beam", 2, "--tokens-per-second", 5, "--max-segment-seconds", 2]
        assert main([str(word) for word in words]) == 0
        found = {code: tmp_path / f"{option}.{code}.{form}" for code in ("fr", "de")}
        files[option] = {code: path.read_text(encoding="utf-8") for code, path in found.items()}
    assert files["--hf"] == files["--model"]
    assert files["--hf"]["fr"] != files["--hf"]["de"]
    if form == "json":
        assert len(json.loads(files["--hf"]["fr"])["segments"]) == 2  # between its pauses


def test_model_tells_a_folder_from_a_checkpoint(exported, both):
    found = open_model(str(exported.folder), cpu=True)
    assert type(found) is type(both[1])
    page = load_checkpoint(str(exported.folder), cpu=True)
    assert page.about.encoder.endswith("hubert")
    assert page.trained == load_checkpoint(str(exported.checkpoint), cpu=True).trained
    assert page.trained == ("fr",)
    assert page.wordings("translation", "fr") == Translator(both[0], Settings()).wordings("translation", "fr")


def test_own_templates_ask(exported, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("base: default\ntranslation:\n  default: ['{speech} Say it in {language}.']\nstop: ['e']\n")
    texts = []
    for loaded in (load_trained(exported.checkpoint, cpu=True), load_exported(str(exported.folder), cpu=True)):
        plain = texts_of(loaded, SEARCHES["greedy"])
        loaded.use_templates(str(own))
        texts.append(texts_of(loaded, SEARCHES["greedy"]))
        assert texts[-1] != plain
    assert texts[0] == texts[1]


def test_fewer_bits_of_the_training_are_said_not_to_be_taken_over(exported, tmp_path, caplog):
    folder = shutil.copytree(exported.folder, tmp_path / "model")
    record = json.loads((folder / "fairseq.json").read_text())
    record["cfg"]["model"]["llm_quantization"] = "4bit"
    (folder / "fairseq.json").write_text(json.dumps(record))
    load_exported(str(folder), cpu=True)
    assert "beside an LLM in 4bit, which runs in float32 here" in caplog.text


def test_what_cannot_be_has_a_sentence(exported, here, tmp_path, capsys):
    with pytest.raises(SparqleError, match="was trained without LoRA"):
        load_exported(str(exported.folder), without_lora=True, cpu=True)
    with pytest.raises(SparqleError, match="leave --text-tokenizer out"):
        open_model(str(exported.folder), text_tokenizer="x")
    with pytest.raises(SparqleError, match=r"has no config\.json"):
        open_model(str(tmp_path))
    with pytest.raises(SparqleError, match="not a SparQLe model"):
        open_model(str(here.llm))
    for words in (["--model", "a", "--hf", "b"], []):
        assert main(["translate", "x.wav", "--to", "fr", *words]) == 2
        assert "give a checkpoint with --model, or a folder of export-hf with --hf" in capsys.readouterr().err
