"""Run in a process of its own, with a folder: the whole core at work where fairseq cannot be imported.

Prints what it did, a line each.
"""

from __future__ import annotations

import importlib
import importlib.abc
import pkgutil
import sys
from pathlib import Path
from typing import Any


class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in ("fairseq", "fairseq_cli"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)


sys.meta_path.insert(0, Blocked())

import sparqle_fairseq  # noqa: E402

heavy = {"torch", "numpy", "transformers", "omegaconf", "soundfile"} & sys.modules.keys()
assert not heavy, f"import sparqle_fairseq loads {heavy}"

from sparqle_fairseq.errors import SparqleError  # noqa: E402

# What fairseq's own classes are made from, and what mends fairseq.
FAIRSEQ_PARTS = ("sparqle_fairseq.tasks", "sparqle_fairseq.criterions", "sparqle_fairseq.fairseq_fixes")


def import_everything() -> None:
    count = 0
    for found in pkgutil.walk_packages(sparqle_fairseq.__path__, "sparqle_fairseq.", onerror=lambda _: None):
        if found.name.startswith(FAIRSEQ_PARTS):
            continue
        importlib.import_module(found.name)
        count += 1
    print(f"imported {count} modules")
    for name in (*FAIRSEQ_PARTS, "sparqle_fairseq.tasks.loading", "sparqle_fairseq.criterions.pretrain"):
        try:
            importlib.import_module(name)
        except SparqleError as error:
            sentence = str(error)
            assert "needs the package fairseq" in sentence, sentence
            assert sentence.endswith("run: pip install ve-fairseq"), sentence
        else:
            raise AssertionError(f"{name} was imported")
    try:
        sparqle_fairseq.register()
    except SparqleError as error:
        print(f"register: {error}")


def use_the_core(folder: Path) -> None:
    import tiny
    import torch
    from factories import save_tiny_hugging_face

    from sparqle_fairseq.data.dataset import SpeechDataset
    from sparqle_fairseq.data.instructions import InstructionSide
    from sparqle_fairseq.data.manifest import read_manifest
    from sparqle_fairseq.data.transcripts import TranscriptSide
    from sparqle_fairseq.data.wordings import PromptTemplates
    from sparqle_fairseq.models.config import PretrainModelConfig, SpeechLLMConfig
    from sparqle_fairseq.models.encoders import load_speech_encoder
    from sparqle_fairseq.models.stage1.losses import generation_loss
    from sparqle_fairseq.models.stage1.model import PretrainModel
    from sparqle_fairseq.models.stage2.model import SpeechLLM

    save_tiny_hugging_face(folder / "hubert", normalize=False)
    tiny.write_split(folder, "train", 4, seed=1, languages=("en", "fr"))
    tiny.save_text_tokenizer(folder / "tokenizer")
    tiny.save_llm(folder / "llm")
    (folder / "encoder.pt").write_bytes(b"PK")
    try:
        load_speech_encoder(folder / "encoder.pt")
        raise AssertionError("a fairseq checkpoint was read")
    except SparqleError as error:
        print(f"encoder: {error}")
    sizes: dict[str, Any] = {"hidden_size": 32, "layers": 2, "heads": 4, "ffn_size": 64, "queries": 6}
    encoder = str(folder / "hubert")
    manifests = [read_manifest(folder / "train.tsv")]

    torch.manual_seed(0)
    first = PretrainModel.build(
        PretrainModelConfig(speech_encoder=encoder, text_tokenizer=str(folder / "tokenizer"), **sizes)
    )
    data = SpeechDataset(manifests, TranscriptSide(first.tokenizer, 512), normalize=first.speech_encoder.normalize)
    batch = data.collater([data[i] for i in range(4)])
    sums = first(**batch["net_input"])
    assert sorted(sums) == ["stc", "stg", "stm"]
    loss = sum(first.objective[name] * own["sum"] / own["count"] for name, own in sums.items())
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in first.parameters())
    print(f"stage 1: loss {loss.item():.3f}")
    written = generate(first, batch, first.tokenizer.pad, first.tokenizer.end)
    print(f"stage 1 writes: {[first.tokenizer.decode(tokens) for tokens in written]}")

    checkpoint = folder / "stage1.pt"
    options = vars(PretrainModelConfig(speech_encoder=encoder, **sizes))
    torch.save({"model": first.state_dict(), "cfg": {"model": options}}, checkpoint)
    second = SpeechLLM.build(
        SpeechLLMConfig(
            speech_encoder=encoder,
            llm=str(folder / "llm"),
            llm_dtype="fp32",
            pretrained_adapter=str(checkpoint),
            **sizes,
        ),
        training=True,
    )
    tensors = second.adapter.qformer.state_dict()
    assert all(torch.equal(tensors[n], v) for n, v in first.adapter.qformer.state_dict().items() if n in tensors)
    llm, templates = second.llm, PromptTemplates.load(None)
    side = InstructionSide(templates.builder(llm.tokenizer), templates, pad=llm.pad, max_tokens=llm.context - 6)
    data = SpeechDataset(manifests, side, normalize=second.speech_encoder.normalize)
    batch = data.collater([data[i] for i in range(4)])
    logits = second(**batch["net_input"])
    real = ~batch["net_input"]["answer_padding_mask"]
    loss = generation_loss(logits[real], batch["target"][real], 0.0).mean()
    loss.backward()
    assert second.adapter.projector.weight.grad.abs().sum() > 0
    print(f"stage 2: loss {loss.item():.3f}")
    embeddings, seen = second.prompt_embeddings(
        *(batch["net_input"][name] for name in ("source", "padding_mask", "prompt", "prompt_padding_mask"))
    )
    assert embeddings.shape[:2] == seen.shape
    written = generate(second, batch, llm.pad, llm.end)
    print(f"stage 2 writes: {[llm.decode(tokens) for tokens in written]}")
    options = SpeechLLMConfig(speech_encoder=encoder, llm=str(folder / "llm"), llm_dtype="fp32", **sizes)
    use_transformers(second.eval(), vars(options), folder)
    assert not any(name.split(".")[0] in ("fairseq", "fairseq_cli") for name in sys.modules)


def use_transformers(model: Any, options: dict[str, Any], folder: Path) -> None:
    """Export, load, ask, learn, save and load again."""
    import tiny
    import torch
    from hugging_face_models import write_model
    from transformers import AutoModelForMultimodalLM, AutoProcessor

    write_model(model, options, folder / "model")
    translate_the_folder(folder)
    processor = AutoProcessor.from_pretrained(folder / "model")
    found = AutoModelForMultimodalLM.from_pretrained(folder / "model")
    waves = [tiny.tones("red fox"), tiny.tones("cat")]
    asked = processor.apply_translation_request(waves, to="fr", sampling_rate=16000)
    ids = found.generate(**asked, max_new_tokens=4, num_beams=2)[:, asked["input_ids"].size(1) :]
    taught = processor.apply_translation_request(waves, to="fr", sampling_rate=16000, answers=["Rouge", "Chat"])
    found.train()(**taught).loss.backward()
    assert found.adapter.projector.weight.grad.abs().sum() > 0
    found.eval().save_pretrained(folder / "saved", self_contained=True)
    back = AutoModelForMultimodalLM.from_pretrained(folder / "saved")
    with torch.no_grad():
        assert torch.equal(back(**asked).logits, found(**asked).logits)
    print(f"transformers writes: {processor.batch_decode(ids)}")


def translate_the_folder(folder: Path) -> None:
    """What a person gets of it: `sparqle translate --hf`, and the model behind the page."""
    import json

    import soundfile
    import tiny

    from sparqle_fairseq.cli.main import main
    from sparqle_fairseq.data.segments import Segment
    from sparqle_fairseq.tools.page.model import load_checkpoint
    from sparqle_fairseq.tools.translate.translator import Settings, Target

    wave, place = tiny.tones("red fox"), folder / "model"
    soundfile.write(folder / "fox.wav", wave, 16000, subtype="FLOAT")
    quick = ["--beam", "2", "--tokens-per-second", "5", "--segment", "none", "--cpu"]
    for which in ("--hf", "--model"):
        output = folder / f"fox{which}.json"
        code = main(["translate", str(folder / "fox.wav"), "--to", "fr", which, str(place), *quick, "-o", str(output)])
        assert code == 0, code
    (found,) = json.loads(output.read_text())["segments"]
    assert json.loads((folder / "fox--hf.json").read_text())["segments"] == [found]
    page = load_checkpoint(str(place), cpu=True)
    assert page.can_translate
    settings = Settings(beam=2, tokens_per_second=5)
    ((text,),) = page.translate([Segment(0, wave)], [Target("translation", "fr")], settings, lambda: None)
    assert text.text == found["text"]
    print(f"translate --hf writes: {[text.text]}")


def generate(model: Any, batch: dict[str, Any], pad: int, end: int) -> list[list[int]]:
    import torch

    from sparqle_fairseq.generate.limits import LengthRule
    from sparqle_fairseq.generate.search import SearchSettings, search

    model.eval()
    source = model.speech_encoder
    rule = LengthRule(0.0, 8, source.frame_rate, source.sample_rate / source.frame_rate)
    with torch.no_grad():
        limits = rule.limits([model], batch["net_input"])
        decoder, settings = model.step_decoder(), SearchSettings(beam=2)
        found = search(decoder, batch["net_input"], settings, limits, pad=pad, end=end, keys=batch["id"])
    assert all(row and row[0].tokens for row in found)
    return [row[0].tokens for row in found]


if __name__ == "__main__":
    import_everything()
    use_the_core(Path(sys.argv[1]))
    print("done")
