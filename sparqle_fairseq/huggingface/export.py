"""Everything that a folder of a SparQLe model holds, written from a model in memory."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import folder_written_whole, read_json, write_text
from sparqle_fairseq.huggingface.configuration import SparqleAdapterConfig, SparqleConfig
from sparqle_fairseq.huggingface.flat import auto_map, flat_files
from sparqle_fairseq.huggingface.folder import TRAINING, WEIGHTS
from sparqle_fairseq.huggingface.frames import frame_rule
from sparqle_fairseq.huggingface.modeling import SparqleForConditionalGeneration
from sparqle_fairseq.huggingface.processing import AUDIO_TOKEN, SparqleProcessor
from sparqle_fairseq.models.encoders import SpeechEncoder, fingerprint
from sparqle_fairseq.models.encoders.place import EncoderPlace
from sparqle_fairseq.models.llm.llm import LanguageModel
from sparqle_fairseq.models.qformer.plain import ReadingConfig

PROCESSOR = "processor_config.json"
LORA_FIELDS = ("lora_rank", "lora_alpha", "lora_dropout", "lora_target")


def model_config(
    encoder: SpeechEncoder,
    llm: LanguageModel,
    reader: ReadingConfig,
    options: Mapping[str, Any],
    identity: Mapping[str, Any],
    audio_token_id: int,
) -> SparqleConfig:
    """The configuration of a trained adapter between `encoder` and `llm`, which lie where their identity says.

    Args:
        encoder: of Hugging Face's kinds.
        reader: sizes of what reads the speech.
        options: `projector`, `compress_queries`, `soft_tokens`, `answer` and those of LoRA; what is missing is off.
        identity: of encoder and LLM, as the folder is to be checked against.
    """
    place = EncoderPlace(str(encoder.identity["path"]))
    from transformers import AutoConfig

    shape = {name: getattr(reader, name) for name in ("adapter", *(part.name for part in fields(reader)))}
    for name in ("vocab_size", "speech_width", "max_text_positions"):
        del shape[name]
    around = ("projector", "compress_queries", "soft_tokens", "answer", *LORA_FIELDS)
    shape |= {name: options[name] for name in around if options.get(name) is not None}
    settings = place.preprocessor() or {}
    known = ("n_fft", "hop_length", "chunk_length", "sampling_rate", "feature_size")
    return SparqleConfig(
        audio_config=AutoConfig.for_model(**place.config),
        text_config=copy.deepcopy(llm.model.config),
        adapter_config=SparqleAdapterConfig(**shape),
        audio_token_id=audio_token_id,
        encoder_layer=str(encoder.layer),
        normalize=encoder.normalize,
        sampling_rate=encoder.sample_rate,
        front_end={name: settings[name] for name in known if name in settings} or None,
        speech_encoder=str(encoder.identity["path"]),
        llm=str(llm.identity["path"]),
        identity={part: dict(values) for part, values in identity.items()},
    )


def processor_of(
    encoder: SpeechEncoder, tokenizer: Any, reader: ReadingConfig, templates: PromptTemplates, answer: str
) -> SparqleProcessor:
    """The processor of a model; `tokenizer`, the LLM's, is given the audio token. Raises `SparqleError`."""
    from transformers import Wav2Vec2FeatureExtractor

    if AUDIO_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([AUDIO_TOKEN], special_tokens=True)
    return SparqleProcessor(
        Wav2Vec2FeatureExtractor(sampling_rate=encoder.sample_rate, do_normalize=False, return_attention_mask=True),
        tokenizer,
        frames=frame_rule(encoder.frozen.module),
        queries=reader.queries,
        window_frames=reader.window_frames,
        speech_stride=reader.speech_stride,
        normalize=encoder.normalize,
        wordings={task: {code: list(lines) for code, lines in by.items()} for task, by in templates.wordings.items()},
        system=templates.system,
        speech=templates.speech,
        use_chat_template=templates.chat_template,
        before_answer=templates.before_answer,
        answer=answer,
        chats=bool(getattr(tokenizer, "chat_template", None)),
    )


def write_folder(
    folder: Path,
    config: SparqleConfig,
    processor: SparqleProcessor,
    tensors: Mapping[str, Tensor],
    ends: list[int],
    card: str,
    training: Mapping[str, Any] | None = None,
    self_contained: bool = False,
    stops: Sequence[str] = (),
    with_code: bool = False,
    encoder: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model's folder, whole or not at all, after it was loaded and found to be whole.

    Args:
        folder: must not exist.
        tensors: of the adapter, under the names `adapter.*`.
        ends: the tokens that end an answer, the one that it is trained to end with first.
        card: text of README.md.
        training: what the fairseq checkpoint says of its training, for the way back.
        self_contained: put encoder and LLM into the folder.
        stops: texts before which an answer ends.
        encoder: tensors of the speech encoder, where it has learned; it is to be put into the folder.
        with_code: put this package's model beside it, for people who have `trust_remote_code` run it.

    Raises:
        SparqleError: the folder exists, or what was written does not load.
    """
    if folder.exists():
        raise SparqleError(f"{folder} exists already; give another name with --output, or move it away")
    with folder_written_whole(folder) as part:
        config.architectures = [SparqleForConditionalGeneration.__name__]
        if with_code:
            config.auto_map = auto_map()
        config.save_pretrained(part)
        processor.save_pretrained(part)
        if with_code:
            write_code(part)
        save_file({name: value.contiguous() for name, value in tensors.items()}, part / WEIGHTS, {"format": "pt"})
        generation_config(processor, ends, stops).save_pretrained(part)
        model = SparqleForConditionalGeneration.from_pretrained(part)
        if encoder is not None:
            model.speech_encoder.load_state_dict(encoder)
            model.config.identity["speech encoder"]["fingerprint"] = fingerprint(encoder)
        if self_contained:
            model.save_pretrained(part, self_contained=True)
        write_text(part / "README.md", card)
        if training is not None:
            write_text(part / TRAINING, json.dumps(training, indent=1, sort_keys=True) + "\n")
        _open_as_usual(part)


def write_code(folder: Path) -> None:
    """Put the flat files into a folder, and say so in its processor's settings."""
    for name, text in flat_files().items():
        write_text(folder / name, text)
    settings = read_json(folder / PROCESSOR)
    settings["auto_map"] = {"AutoProcessor": auto_map()["AutoProcessor"]}
    write_text(folder / PROCESSOR, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def generation_config(processor: SparqleProcessor, ends: list[int], stops: Sequence[str] = ()) -> Any:
    """What `generate` does unless it is told otherwise; for `ends` and `stops` see `write_folder`."""
    from transformers import GenerationConfig

    pad = processor.tokenizer.pad_token_id
    return GenerationConfig(
        eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=ends[0] if pad is None else pad,
        bos_token_id=processor.tokenizer.bos_token_id,
        min_new_tokens=1,  # as fairseq: an answer is not empty
        stop_strings=list(stops) or None,
    )


def _open_as_usual(folder: Path) -> None:
    """Give each file the access that a new one has here; safetensors gives its owner alone access."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)
