"""`sparqle export-hf`: a stage-2 checkpoint of fairseq-train as a model that transformers loads."""

from __future__ import annotations

import copy
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_text
from sparqle_fairseq.generate.stopping import stop_texts
from sparqle_fairseq.models.encoders import SpeechEncoder, load_speech_encoder, parse_layer
from sparqle_fairseq.models.encoders.tuning import tuned_network
from sparqle_fairseq.models.identity import STATE_NAME, decode_identity

CLOSE = 1e-4  # relative difference of features that two copies of one encoder may have


class Exported(NamedTuple):
    tensors: int  # of the adapter
    parameters: int
    speech_encoder: str  # where the model looks for it
    llm: str
    self_contained: bool


def export_hf(
    checkpoint: Path,
    output: Path,
    *,
    speech_encoder: str | None = None,
    llm: str | None = None,
    self_contained: bool = False,
    scores: Path | None = None,
    licence: str | None = None,
    stop: Sequence[str] = (),
    with_code: bool = False,
) -> Exported:
    """Write the folder `output`.

    Args:
        checkpoint: of stage 2.
        output: must not exist; appears when it is whole and was loaded once.
        speech_encoder: a Hugging Face folder or hub id of the encoder. A HuBERT of fairseq must be converted
            (`sparqle convert-hubert`) or be put inside with `self_contained`.
        llm: where the LLM is now, if not where it was in training.
        self_contained: put encoder and LLM into the folder.
        scores: a text file with scores and their signatures, for the model card.
        licence: of the adapter, for the model card.
        stop: texts before which an answer ends, as typed, beside those of the training and its template file.
        with_code: put the model's own code into the folder, for `trust_remote_code`; nothing here ever runs it.

    Raises:
        SparqleError: the checkpoint is of stage 1 or cannot be read, a part is missing or another, or `output` exists.
    """
    from omegaconf import OmegaConf

    from sparqle_fairseq.huggingface.card import model_card
    from sparqle_fairseq.huggingface.export import model_config, processor_of, write_folder
    from sparqle_fairseq.tasks.loading import load_trained

    if output.exists():
        raise SparqleError(f"{output} exists already; give another name with --output, or move it away")
    table = None if scores is None else read_text(scores, "table of scores")
    trained = load_trained(checkpoint, llm=llm, cpu=True)
    model: Any = trained.model
    if not hasattr(model, "llm"):
        raise SparqleError(
            f"{checkpoint} is of stage 1, which has no LLM to answer with; export a checkpoint of stage 2"
        )
    tuning = getattr(model.adapter, "encoder_tuning", None)
    heard = _learned_encoder(model, tuning, checkpoint, speech_encoder, self_contained)
    with tempfile.TemporaryDirectory(prefix="sparqle-") as scratch:
        encoder = _for_transformers(model.speech_encoder, speech_encoder, self_contained, Path(scratch))
        templates = PromptTemplates.load(
            trained.task.cfg.prompt_templates or getattr(trained.cfg.task, "prompt_templates", None)
        )
        reader = model.adapter.reader.config
        processor = processor_of(encoder, copy.deepcopy(model.llm.tokenizer), reader, templates, model.answer)
        cfg: Any = OmegaConf.to_container(OmegaConf.create(trained.cfg), resolve=True, enum_to_str=True)
        # Of an encoder that was converted on the way, the place where it was trained.
        lies = speech_encoder or model.speech_encoder.identity["path"]
        identity = {"speech encoder": {**encoder.identity, "path": lies}, "LLM": model.llm.identity}
        config = model_config(encoder, model.llm, reader, cfg["model"], identity, processor.audio_token_id)
        tensors: dict[str, Tensor] = {
            name: value
            for name, value in model.state_dict().items()
            if name.startswith("adapter.") and not name.startswith("adapter.encoder_tuning.")
        }
        card = model_card(output.name, config, cfg, scores=table, licence=licence, with_code=with_code)
        # An encoder that has learned is inside, and no checkpoint could name it on the way back.
        training = None if heard is not None else _training(checkpoint, cfg)
        stops = dict.fromkeys([*stop_texts([*stop, *trained.stops]), *templates.stop])
        write_folder(
            output,
            config,
            processor,
            tensors,
            model.llm.end_tokens,
            card,
            training,
            self_contained=self_contained,
            stops=list(stops),
            with_code=with_code,
            encoder=heard,
        )
    parameters = sum(value.numel() for value in tensors.values())
    places = str(encoder.identity["path"]), str(model.llm.identity["path"])
    return Exported(len(tensors), parameters, *places, self_contained)


def _learned_encoder(
    model: Any, tuning: Any, checkpoint: Path, speech_encoder: str | None, inside: bool
) -> dict[str, Tensor] | None:
    """The tensors of an encoder that has learned, as one that never did has them; None of one that stayed as it was."""
    if tuning is None:
        return None
    kind = str(model.speech_encoder.identity["kind"])
    if not inside or speech_encoder is not None or not kind.startswith("hf_"):
        raise SparqleError(
            f"in {checkpoint} the speech encoder has learned, so no other place holds it; give --self-contained and no "
            "--speech-encoder, for an encoder of Hugging Face"
        )
    return tuned_network(model.speech_encoder, tuning).state_dict()


def _training(checkpoint: Path, cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says of its training, word for word, for `import-hf`; `cfg` where it says it in an older way."""
    allow_fairseq_checkpoints()
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(checkpoint))
    kinds = {value.dtype for name, value in state["model"].items() if name.startswith("adapter.")}
    return {
        "cfg": state["cfg"] if isinstance(state.get("cfg"), dict) else cfg,
        "identity": decode_identity(state["model"][STATE_NAME]),
        "dtype": str(kinds.pop()).removeprefix("torch.") if len(kinds) == 1 else "float32",
        "identity_dtype": str(state["model"][STATE_NAME].dtype).removeprefix("torch."),
    }


def _for_transformers(encoder: SpeechEncoder, given: str | None, inside: bool, scratch: Path) -> SpeechEncoder:
    """The encoder as transformers can have it: itself, or the same one of a Hugging Face folder."""
    if str(encoder.identity["kind"]).startswith("hf_") and given is None:
        return encoder
    place = given
    if place is None:
        if not inside:
            raise SparqleError(
                f"the speech encoder {encoder.identity['path']} is a checkpoint of fairseq, which transformers cannot "
                "read; convert it with sparqle convert-hubert and give the folder with --speech-encoder, or put it "
                "inside with --self-contained"
            )
        from sparqle_fairseq.tools.exchange.hubert import convert_hubert

        place = str(scratch / "encoder")
        convert_hubert(str(encoder.identity["path"]), place)
    other = load_speech_encoder(place, layer=parse_layer(str(encoder.layer)))
    if not str(other.identity["kind"]).startswith("hf_"):
        raise SparqleError(f"--speech-encoder {place} is not of Hugging Face; give the folder of convert-hubert")
    check_same(encoder, other, place)
    return other


@torch.no_grad()
def check_same(one: SpeechEncoder, other: SpeechEncoder, place: str) -> None:
    """Raise `SparqleError` where the two hear other things in a second of noise."""
    same = one.width == other.width and one.normalize == other.normalize and one.sample_rate == other.sample_rate
    if same:
        noise = torch.randn(1, one.sample_rate, generator=torch.Generator().manual_seed(0)) / 10
        a, b = one(noise).values.float(), other(noise).values.float()
        same = a.shape == b.shape and float((a - b).norm()) <= CLOSE * float(a.norm())
    if not same:
        raise SparqleError(
            f"--speech-encoder {place} is not the encoder that the checkpoint was trained with "
            f"({one.identity['path']}): it gives other features; give the converted one"
        )
