"""A model of the plugin and its export for transformers: the same loss, logits and texts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from factories import save_tiny_hugging_face, save_tiny_whisper
from hugging_face_models import EndsAtTheLimit, write_model
from omegaconf import OmegaConf
from tiny_models import PLAIN, batch, build_stage1, build_stage2, build_stage2_from, save_adapter, stir

from sparqle_fairseq.huggingface import SparqleForConditionalGeneration, SparqleProcessor

KINDS = {
    "plain": [],
    "windows": ["--query-window-seconds", "0.1", "--queries-per-window", "2"],
    "mlp": ["--projector", "mlp"],
    "linear-norm": ["--projector", "linear-norm"],
    "scaled": ["--projector", "scaled"],
    "stack": ["--speech-downsample", "stack", "--speech-stride", "2"],
    "conv": ["--speech-downsample", "conv", "--speech-stride", "2"],
    "monotonic": ["--query-start", "monotonic", "--speech-entry", "linear"],
    "layers": ["--encoder-layer", "weighted"],
    "first layer": ["--encoder-layer", "1"],
    "lora": ["--lora-rank", "4", "--lora-target", "all-linear"],
    "whisper": [],
    "normalised": [],
    "transcript first": ["--answer", "transcript-first"],
    "compressed": ["--compress-queries"],
    "stack adapter": PLAIN["stack"],
    "conv adapter": PLAIN["conv"],
    "ctc adapter": PLAIN["ctc"],
    "windows by ctc": ["--query-windows", "ctc", "--query-window-seconds", "0.04", "--queries-per-window", "2"],
    "soft tokens": ["--compress-queries", "--soft-tokens"],
}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    save_tiny_hugging_face(root / "plain", "hubert", normalize=False)
    save_tiny_hugging_face(root / "normalised", "wavlm", large=True, normalize=True)
    save_tiny_whisper(root / "whisper", whole=True)
    return root


def built_as(kind, world, encoders, folder):
    encoder = encoders / (kind if kind in ("whisper", "normalised") else "plain")
    here = SimpleNamespace(**{**vars(world), "encoder": encoder})
    if "compress" not in " ".join(KINDS[kind]) and "ctc" not in kind:
        built = build_stage2(here, *KINDS[kind])
    else:
        shape = KINDS[kind] if "ctc" in kind else []
        objective = "llm-ctc+frame-ctc" if "windows" in kind else "llm-ctc"
        first = build_stage1(here, "--objective", objective, "--llm", str(world.llm), *shape)
        built = build_stage2_from(here, save_adapter(first, folder / "first.pt"), *KINDS[kind])
        stir(built.model, 1.5)
        built.model.eval()
    if built.model.adapter.lora is not None:
        torch.manual_seed(5)
        for layer in built.model.adapter.lora.parameters():
            torch.nn.init.normal_(layer, std=0.3)
    return built


def exported(built, folder):
    options = OmegaConf.to_container(built.cfg.model, resolve=True, enum_to_str=True)
    write_model(built.model, options, folder)
    return SparqleForConditionalGeneration.from_pretrained(folder), SparqleProcessor.from_pretrained(folder)


def hypotheses(built, sample, beam):
    from fairseq.dataclass.configs import GenerationConfig

    generator = built.task.build_generator([built.model], GenerationConfig(beam=beam, max_len_a=0, max_len_b=8))
    found = generator.generate([built.model], sample)
    return [row[0]["tokens"].tolist() for row in found]


def until_the_end(tokens, end):
    """Generated tokens up to the first end token, which counts."""
    tokens = tokens.tolist()
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_has_the_same_loss_and_texts(kind, world, encoders, tmp_path):
    built = built_as(kind, world, encoders, tmp_path)
    model, processor = exported(built, tmp_path / "export")
    rows = [1, 3, 4]
    sample = batch(built, "dev2", rows)
    dataset = built.task.dataset("dev2")
    recordings = [dataset.row(i).audio for i in rows]
    inputs = SimpleNamespace(
        languages=[dataset.row(i).tgt_lang for i in rows], tasks=[dataset.row(i).task for i in rows]
    )
    prompts = []
    for i, row in enumerate(rows):
        ask = (
            processor.apply_translation_request
            if inputs.tasks[i] == "translation"
            else processor.apply_transcription_request
        )
        named = {"to": inputs.languages[i]} if inputs.tasks[i] == "translation" else {}
        prompts.append(
            ask(
                recordings[i],
                **named,
                answers=dataset.text.item(dataset.row(row), "", 1)["reference"]
                if model.config.adapter_config.answer == "direct"
                else None,
            )
        )
    with torch.no_grad():
        logits = built.model(**sample["net_input"])
    for i, prompt in enumerate(prompts):
        if "labels" not in prompt:
            continue
        with torch.no_grad():
            output = model(**prompt)
        real = ~sample["net_input"]["answer_padding_mask"][i]
        torch.testing.assert_close(output.logits[0, :-1], logits[i][real], atol=1e-4, rtol=1e-4)
        theirs = torch.nn.functional.cross_entropy(logits[i][real], sample["target"][i][real])
        torch.testing.assert_close(output.loss, theirs, atol=1e-5, rtol=1e-5)
    translations = [i for i in range(len(rows)) if inputs.tasks[i] == "translation"]
    asked = processor.apply_translation_request(
        [recordings[i] for i in translations], to=[inputs.languages[i] for i in translations]
    )
    for beam in (1, 3):
        expected = hypotheses(built, sample, beam)
        found = model.generate(
            **asked,
            num_beams=beam,
            do_sample=False,
            max_new_tokens=9,
            logits_processor=[EndsAtTheLimit(asked["input_ids"].size(1) + 8, built.model.llm.end)],
        )
        answers = [until_the_end(row, built.model.llm.end) for row in found[:, asked["input_ids"].size(1) :]]
        assert answers == [expected[i] for i in translations], beam
