"""Stop texts of a checkpoint, its templates and `export-hf --stop`: `generate` ends its answers as the plugin does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
import torch
from click.testing import CliRunner
from factories import save_tiny_hugging_face
from hugging_face_models import EndsAtTheLimit
from omegaconf import OmegaConf
from tiny_models import build_stage2

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.huggingface import SparqleForConditionalGeneration, SparqleProcessor
from sparqle_fairseq.huggingface.asked import load_exported
from sparqle_fairseq.tasks.loading import load_trained
from sparqle_fairseq.tools.exchange.released import checkpoint_state, save
from sparqle_fairseq.tools.translate.translator import SPARE_TOKENS, Settings, Target, Translator

WAVES = [tiny.tones(text, seed=i) for i, text in enumerate(["red fox", "dog sleeps blue", "cat", "blue dog runs"])]
SEGMENTS = [Segment(16000 * i, wave) for i, wave in enumerate(WAVES)]
LONGEST = SPARE_TOKENS  # tokens for seconds are none here
FRENCH = Target("translation", "fr")
TEMPLATE = 'chat_template: false\nbefore_answer: "\\nFrench:"\ntranscription: ["{speech}"]\ntranslation: ["{speech}"]\n'


@pytest.fixture(scope="module")
def base(world, tmp_path_factory):
    """Stage 2 over an LLM without a chat template, and what it writes when nothing stops it."""
    root = tmp_path_factory.mktemp("base")
    save_tiny_hugging_face(root / "hubert", "hubert", normalize=False)
    (root / "few.yaml").write_text(TEMPLATE)
    llm = tiny.save_base_llm(root / "llm")
    here = SimpleNamespace(**{**vars(world), "encoder": root / "hubert"})
    built = build_stage2(here, "--llm", str(llm), "--prompt-templates", str(root / "few.yaml"))
    checkpoint = written(built, root / "there.pt")
    return SimpleNamespace(root=root, built=built, checkpoint=checkpoint, texts=plugin(load_trained(checkpoint)))


def written(built, path, **task):
    cfg = OmegaConf.to_container(built.cfg, resolve=True, enum_to_str=True)
    cfg["task"] |= task
    save(path, checkpoint_state(cfg, built.model.state_dict(), {}))
    return path


def plugin(loaded, beam=1):
    settings = Settings(beam=beam, tokens_per_second=0.001, guard=False)
    return [text.text for (text,) in Translator(loaded, settings)(SEGMENTS, [FRENCH])]


def transformers(folder, beam=1, **named):
    """Texts of `generate`, of at most LONGEST tokens before the end."""
    model, processor = (kind.from_pretrained(folder) for kind in (SparqleForConditionalGeneration, SparqleProcessor))
    asked = processor.apply_translation_request(WAVES, to="fr", sampling_rate=16000)
    limit = EndsAtTheLimit(asked["input_ids"].size(1) + LONGEST, model.generation_config.eos_token_id)
    search = {"max_new_tokens": LONGEST + 1, "num_beams": beam, "do_sample": False, "logits_processor": [limit]}
    found = model.generate(**asked, **search, **named)
    return [text.strip() for text in processor.batch_decode(found[:, asked["input_ids"].size(1) :])]


def exported(checkpoint, folder, *more):
    done = CliRunner().invoke(app, ["export-hf", str(checkpoint), "-o", str(folder), *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder


def in_all(texts):
    """A letter that every text has behind its first one."""
    return next(letter for letter in sorted(set(texts[0])) if letter.isascii() and all(letter in t[1:] for t in texts))


def test_the_stops_of_training_templates_and_export_end_every_answer(base, tmp_path):
    stop = in_all(base.texts)
    own = tmp_path / "few.yaml"
    own.write_text(TEMPLATE + f"stop: [{stop!r}]\n")
    by_template = written(base.built, tmp_path / "a.pt", prompt_templates=str(own))
    by_training = written(base.built, tmp_path / "b.pt", stop=stop)
    expected = [text[0] + text[1:].partition(stop)[0] for text in base.texts]
    assert max(map(len, expected)) < min(map(len, base.texts))
    for checkpoint, more in ((by_template, []), (by_training, []), (base.checkpoint, ["--stop", stop])):
        folder = exported(checkpoint, tmp_path / f"model-{checkpoint.stem}", *more)
        if not more:
            assert plugin(load_trained(checkpoint)) == plugin(load_exported(str(folder)))
        found = transformers(folder)
        assert found == plugin(load_exported(str(folder)))
        assert not any(stop in text[1:] for text in found)
    assert transformers(folder, beam=4) == plugin(load_exported(str(folder)), beam=4)
    # Back to a checkpoint without the record of its training: the stop is in its file of instructions.
    (folder / "fairseq.json").unlink()
    done = CliRunner().invoke(app, ["import-hf", str(folder), "-o", str(tmp_path / "back.pt")], catch_exceptions=False)
    assert done.exit_code == 0
    assert PromptTemplates.load(tmp_path / "back.prompts.yaml").stop == (stop,)
    assert plugin(load_trained(tmp_path / "back.pt")) == found


def test_an_answer_is_not_empty_before_its_stop(base, tmp_path):
    first = base.texts[0][0]
    folder = exported(base.checkpoint, tmp_path / "model", "--stop", first)
    found = transformers(folder)
    assert found == plugin(load_exported(str(folder)))
    assert all(found)
    assert not any(first in text for text in found)


def test_a_call_can_name_stops_and_a_tokenizer(base, tmp_path):
    stop = in_all(base.texts)
    plain = exported(base.checkpoint, tmp_path / "plain")
    stopping = exported(base.checkpoint, tmp_path / "stopping", "--stop", stop)
    assert transformers(plain, stop_strings=stop) == transformers(stopping)
    processor = SparqleProcessor.from_pretrained(plain)
    asked = processor.apply_translation_request(WAVES[:2], to="fr", sampling_rate=16000)
    model = SparqleForConditionalGeneration(SparqleForConditionalGeneration.from_pretrained(plain).config)
    with pytest.raises(ValueError, match="give generate the processor's tokenizer"):
        model.generate(**asked, stop_strings=["a"], max_new_tokens=2)
    model = SparqleForConditionalGeneration.from_pretrained(stopping)
    out = model.generate(**asked, max_new_tokens=21, return_dict_in_generate=True)
    assert torch.equal(out.sequences, model.generate(**asked, max_new_tokens=21))
    assert out.sequences.size(1) < asked["input_ids"].size(1) + 21
