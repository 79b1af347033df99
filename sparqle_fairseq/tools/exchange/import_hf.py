"""`sparqle import-hf`: a model that transformers loads as a checkpoint of stage 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

import sparqle_fairseq
from sparqle_fairseq.data.wordings import PromptTemplates, profile_names
from sparqle_fairseq.errors import SparqleError, sentence_of
from sparqle_fairseq.files import PartFile, read_json, write_text
from sparqle_fairseq.models.encoders import load_speech_encoder, parse_layer
from sparqle_fairseq.models.identity import STATE_NAME, encode_identity
from sparqle_fairseq.tools.exchange.released import checkpoint_state

# Options of SpeechLLMConfig that the configuration of an adapter has under the same names.
_SAME = (
    "adapter", "query_windows", "frame_vocabulary",
    "hidden_size", "layers", "heads", "ffn_size", "cross_attention_freq", "query_start", "speech_entry",
    "speech_downsample", "speech_stride", "dropout", "projector", "answer", "lora_rank", "lora_alpha", "lora_dropout",
    "lora_target",
)  # fmt: skip
_SWITCHES = ("compress_queries", "soft_tokens")
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class Imported(NamedTuple):
    tensors: int  # of the adapter
    parameters: int
    from_training: bool  # whether the options are those of the first checkpoint
    templates: Path | None  # the file of instructions that was written beside the checkpoint


def import_hf(
    folder: str | Path, output: Path, *, speech_encoder: str | None = None, llm: str | None = None
) -> Imported:
    """Write the checkpoint `output`.

    Args:
        folder: of a SparQLe model, or its hub id.
        output: must not exist; appears when it is whole and was loaded once.
        speech_encoder, llm: where the two lie, if not where the folder says; of one that holds them and was never
            exported, both are needed, because a checkpoint names them and does not hold them.

    Raises:
        SparqleError: the folder is damaged or of another model, a part is missing or another one, or `output` exists.
    """
    sparqle_fairseq.register()
    from sparqle_fairseq.huggingface.folder import TRAINING, find_folder, read_config, read_tensors
    from sparqle_fairseq.tasks.loading import load_trained

    if output.exists():
        raise SparqleError(f"{output} exists already; give another name with --output, or move it away")
    place = find_folder(folder, {})
    config = read_config(place)
    tensors = {name: value for name, value in read_tensors(place).items() if name.startswith("adapter.")}
    templates = None
    record = place / TRAINING
    if record.is_file():
        training = read_json(record, "record of its training")
        if not isinstance(training, Mapping) or not {"cfg", "identity", "dtype", "identity_dtype"} <= training.keys():
            raise SparqleError(f"{record} is not what export-hf writes; export the model again, or remove this file")
        cfg = training["cfg"]
        identity = _identity(training["identity"], config, cfg["model"], speech_encoder)
        given = {"speech_encoder": speech_encoder, "llm": llm}
        cfg["model"] |= {name: value for name, value in given.items() if value is not None}
        dtypes = getattr(torch, training["dtype"]), getattr(torch, training["identity_dtype"])
    else:
        cfg, templates = _options(place, config, output, speech_encoder, llm)
        identity = {part: dict(values) for part, values in (config.identity or {}).items()}
        if not identity:
            raise SparqleError(f"{place} does not say which encoder and LLM it was trained with; it cannot be imported")
        dtypes = torch.float32, torch.float32
    model: dict[str, Tensor] = {name: value.to(dtypes[0]) for name, value in tensors.items()}
    model[STATE_NAME] = encode_identity(identity).to(dtypes[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    if templates is not None:
        write_text(*templates)
    part = PartFile(output)
    try:
        with part.writing() as file:
            torch.save(checkpoint_state(cfg, model, {}), file)
            file.flush()
            load_trained(part.part, cpu=True)
        part.finish()
    except BaseException as error:
        part.abandon()
        if templates is not None:
            templates[0].unlink(missing_ok=True)
        said = sentence_of(error)
        if said is None:
            raise
        raise SparqleError(said.replace(str(part.part), str(folder))) from error
    parameters = sum(value.numel() for value in tensors.values())
    return Imported(len(tensors), parameters, record.is_file(), None if templates is None else templates[0])


def _identity(
    trained: Mapping[str, Any], config: Any, options: Mapping[str, Any], speech_encoder: str | None
) -> dict[str, Any]:
    """What the checkpoint was trained with; of a converted encoder that now stands in its place, that one's."""
    identity = dict(trained)
    converted = (config.identity or {}).get("speech encoder")
    own = identity.get("speech encoder", {})
    if speech_encoder is not None and converted is not None and converted.get("kind") != own.get("kind"):
        layer = parse_layer(str(options["encoder_layer"]))
        if load_speech_encoder(speech_encoder, layer=layer).identity.get("kind") == converted["kind"]:
            identity["speech encoder"] = dict(converted)
    return identity


def _options(
    folder: Path, config: Any, output: Path, speech_encoder: str | None, llm: str | None
) -> tuple[dict[str, Any], tuple[Path, str] | None]:
    """Options of fairseq-train of a model that fairseq never saw, and a file of its instructions if it needs one.

    What the folder does not say has its default.
    """
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from omegaconf import OmegaConf

    from sparqle_fairseq.huggingface.folder import GENERATION
    from sparqle_fairseq.huggingface.frames import FrameRule
    from sparqle_fairseq.huggingface.processing import SparqleProcessor

    encoder, language_model = speech_encoder or config.speech_encoder, llm or config.llm
    if encoder is None or language_model is None:
        raise SparqleError(
            f"{folder} holds its encoder and its LLM, and a checkpoint names them; say where they lie with "
            "--speech-encoder and --llm"
        )
    processor = SparqleProcessor.from_pretrained(folder)
    adapter = config.adapter_config
    words = [".", "--cpu", "--task", "sparqle_finetune", "--arch", "sparqle_llm", "--criterion", "sparqle_finetune"]
    words += ["--speech-encoder", encoder, "--encoder-layer", config.encoder_layer, "--llm", language_model]
    stored = str(getattr(config.text_config, "dtype", None) or "bfloat16").removeprefix("torch.")
    words += ["--llm-dtype", _PRECISIONS.get(stored, "bf16")]
    for name in _SAME:
        words += [f"--{name.replace('_', '-')}", str(getattr(adapter, name))]
    words += [f"--{name.replace('_', '-')}" for name in _SWITCHES if getattr(adapter, name)]
    if adapter.window_frames:
        frames = adapter.window_frames * adapter.speech_stride
        seconds = frames * FrameRule(processor.frames).hop / config.sampling_rate
        words += ["--query-window-seconds", repr(seconds), "--queries-per-window", str(adapter.queries)]
    else:
        words += ["--queries", str(adapter.queries)]
    stops = read_json(folder / GENERATION).get("stop_strings") if (folder / GENERATION).is_file() else None
    profile, file = _templates(replace(processor.templates, stop=tuple(stops or ())), output)
    if profile is not None:
        words += ["--prompt-templates", profile]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), words))
    plain: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return plain, file


def _templates(templates: PromptTemplates, output: Path) -> tuple[str | None, tuple[Path, str] | None]:
    """The value of --prompt-templates, and the file to write for it where no template that ships says the same."""

    def said(one: PromptTemplates) -> dict[str, Any]:
        wordings = {task: {code: list(lines) for code, lines in by.items()} for task, by in one.wordings.items()}
        settings: dict[str, Any] = {
            "speech": one.speech,
            "chat_template": one.chat_template,
            "before_answer": one.before_answer,
        }
        settings |= {} if one.system is None else {"system": one.system}
        return wordings | settings | ({"stop": list(one.stop)} if one.stop else {})

    own = said(templates)
    for name in ["default", *profile_names()]:
        if said(PromptTemplates.load(name)) == own:
            return (None if name == "default" else name), None
    path = output.absolute().with_suffix(".prompts.yaml")
    if path.exists():
        raise SparqleError(f"{path}, where the model's instructions are to go, exists already; move it away")
    return str(path), (path, yaml.safe_dump(own, allow_unicode=True, sort_keys=False))
