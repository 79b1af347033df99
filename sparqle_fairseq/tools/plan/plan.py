"""What a run will need: memory of each GPU, disk, steps. Memory is that of a batch of average utterances."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.adapted import AdaptedModel
from sparqle_fairseq.models.config import DTYPES, SIZES, PretrainModelConfig, SpeechLLMConfig, adapter_config
from sparqle_fairseq.models.encoders.base import Layer, parse_layer
from sparqle_fairseq.models.llm.lora import add_lora, check_lora_options
from sparqle_fairseq.models.qformer.plain import compresses
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Foreign, Stage1Text
from sparqle_fairseq.models.stage1.objectives import kind_of, parse_objective
from sparqle_fairseq.models.stage2.objectives import DEFAULT as STAGE2_DEFAULT
from sparqle_fairseq.models.stage2.objectives import parse_objective as parse_stage2
from sparqle_fairseq.models.stage2.objectives import reads_start
from sparqle_fairseq.tools.plan.filling import Filling, largest, samples_of
from sparqle_fairseq.tools.plan.parts import (
    LLMSize,
    Unheard,
    Unjoined,
    build_encoder,
    build_llm,
    encode,
    llm_config,
    speech_llm,
    stage2_loss,
)
from sparqle_fairseq.tools.plan.tracing import (
    Counter,
    Peak,
    as_made,
    default_dtype,
    in_precision,
    peak_of,
    weight_bytes,
    without_bytes,
)

RATE = 16000
STAGES = ("stage 1", "stage 2")
PRECISIONS = ("fp32", "fp16", "bf16", "memory-efficient-fp16", "memory-efficient-bf16")
# Of fairseq's optimizers: bytes of state for a trained number, and what a step holds beside for a number of the largest
# tensor. Adafactor keeps a number for each row and column.
OPTIMIZERS = {
    "adam": (8, 4), "adamax": (8, 4), "adadelta": (8, 8), "adagrad": (4, 4), "nag": (4, 4), "sgd": (0, 0),
    "adafactor": (0, 12),
}  # fmt: skip
OPTION_OF = {"batch_multiple": "required-batch-size-multiple", "text_vocabulary": "text-vocab"}
TOKENS_A_SECOND = 3.5  # of an English transcript in word pieces, and of an answer in the LLM's
PROMPT_TOKENS = 40


@dataclass(frozen=True)
class Run:
    """What is to be trained, and on what. `qformer` are options of the models that differ from those of `arch`."""

    encoder: str
    llm: str | LLMSize | None
    objective: str = "sparqle"
    objective_stage2: str = STAGE2_DEFAULT
    arch: str = "base"
    adapter: str = "qformer"
    qformer: tuple[tuple[str, Any], ...] = ()
    text_vocabulary: int = 30522
    hours: float = 1000.0
    mean_seconds: float = 12.3
    gpus: int = 1
    precision: str = "fp16"
    optimizer: str = "adam"
    encoder_dtype: str = "fp32"
    llm_dtype: str = "bf16"
    max_tokens: tuple[int, int] = (2_000_000, 1_000_000)  # of the two stages
    update_freq: int = 1
    epochs: float = 10
    from_store: bool = False  # features come from a feature store: no encoder is loaded
    batch_multiple: int = 8  # --required-batch-size-multiple
    batch_size: int | None = None  # the most utterances in a batch
    # Of an utterance: its transcript in the tokens of stage 1 and of the LLM, and the LLM's answer.
    tokens_a_second: tuple[float, float, float] = (TOKENS_A_SECOND,) * 3

    def __post_init__(self) -> None:
        positive = ("hours", "mean_seconds", "gpus", "update_freq", "epochs", "batch_multiple", "text_vocabulary")
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                option = OPTION_OF.get(name, name.replace("_", "-"))
                raise SparqleError(f"--{option} {getattr(self, name):g} must be above 0")
        if self.batch_size is not None and self.batch_size < 1:
            raise SparqleError(f"--batch-size {self.batch_size} must be 1 or more")
        for stage, tokens in enumerate(self.max_tokens[: 1 if self.llm is None else 2]):
            if tokens < self.mean_seconds * RATE:
                option = "--max-tokens-stage2" if stage else "--max-tokens"
                raise SparqleError(
                    f"{option} {tokens} is {tokens / RATE:.1f} seconds, less than one utterance of --mean-seconds "
                    f"{self.mean_seconds:g}; raise it"
                )

    def tokens(self, kind: int) -> int:
        """Tokens of an utterance, of a kind in `tokens_a_second`."""
        return max(3, round(self.mean_seconds * self.tokens_a_second[kind]))

    @property
    def half(self) -> bool:
        return self.precision != "fp32"

    @property
    def dtype(self) -> torch.dtype:
        """Of the trained weights."""
        return DTYPES[self.precision.removeprefix("memory-efficient-")]

    def batch(self, stage: int) -> int:
        """Utterances of average length in a batch, as fairseq counts them out."""
        most = min(int(self.max_tokens[stage] // (self.mean_seconds * RATE)), self.batch_size or sys.maxsize)
        return most // self.batch_multiple * self.batch_multiple or most


@dataclass(frozen=True)
class Stage:
    """One stage of a run: memory in bytes of one GPU, files in bytes."""

    name: str
    trained_parameters: int
    frozen: int
    trained: int
    gradients: int
    optimizer: int
    exchange: int  # buffer in which processes sum gradients
    activations: int  # beside the gradients, at the worst moment
    logits: int  # of the activations
    batch: int
    steps_an_epoch: int
    steps: int
    checkpoint: int
    checkpoint_without_optimizer: int

    @property
    def memory(self) -> int:
        return self.frozen + self.trained + self.gradients + self.optimizer + self.exchange + self.activations


@dataclass(frozen=True)
class Plan:
    store: int  # bytes of the speech as fp16 features
    stages: tuple[Stage, ...]
    fillings: tuple[Filling, ...] = ()  # of the stages, where a GPU's memory was said


def plan(run: Run, gpu_memory: float | None = None) -> Plan:
    """Look at each stage without carrying it out. Raises `SparqleError`.

    With `gpu_memory`, in bytes, also find what fills it: three or four more looks at a stage, of some seconds each.
    """
    config = None if run.llm is None else llm_config(run.llm)
    layer = parse_layer(_options(run, PretrainModelConfig()).encoder_layer)
    if layer == "weighted" and run.from_store:
        raise SparqleError(
            "--encoder-layer weighted sums all layers of an encoder, and a feature store holds one; leave --from-store "
            "out"
        )
    with without_bytes():
        with default_dtype(DTYPES[run.encoder_dtype]):
            network = build_encoder(run.encoder).eval()
        if isinstance(layer, int):
            if not 1 <= layer <= network.depth:
                raise SparqleError(f"--encoder-layer {layer}: the encoder has {network.depth} layers; name one of them")
            network.keep_layers(layer)
        looks = [cache(_stage1(run, network, config, layer))]
        if config is not None:
            looks.append(cache(_stage2(run, network, config, layer)))
        stages = [look(run.batch(stage)) for stage, look in enumerate(looks)]
        fillings = []
        if gpu_memory is not None:
            fillings = [_filling(run, i, look, gpu_memory, network) for i, look in enumerate(looks)]
    frames = run.hours * 3600 * network.sample_rate / network.samples_per_frame
    return Plan(round(frames * network.width * 2), tuple(stages), tuple(fillings))


Look = Callable[[int], Stage]  # the stage with a batch of so many utterances


def _filling(run: Run, stage: int, look: Look, limit: float, network: Any) -> Filling:
    """Of a stage; a batch is never larger than what a GPU gets in an epoch."""
    first = look(run.batch(stage))
    most = math.ceil(run.hours * 3600 / run.mean_seconds / run.gpus)

    def memory(batch: int) -> int:
        return look(batch).memory

    batch = largest(memory, limit, first.batch, most, first.memory - first.activations)
    if not batch:
        return Filling(0, 0, 0)
    samples = samples_of(memory, limit, batch, most, run.mean_seconds * RATE)
    tokens = replace(run, max_tokens=(samples,) * 2)
    return Filling(tokens.batch(stage), samples, samples // network.samples_per_frame)


def _options(run: Run, config: Any) -> Any:
    """The model's options, sizes filled in."""
    config.adapter = run.adapter
    for name, value in (*SIZES[run.arch].items(), *run.qformer):
        setattr(config, name, value)
    return config


def _stage1(run: Run, network: Any, llm: Any, layer: Layer = "last") -> Look:
    options = _options(run, PretrainModelConfig())
    vocabulary = run.text_vocabulary + 1  # and [DEC]
    objective = parse_objective(run.objective)
    needs = [kind_of(name) for name in objective]
    table = None
    if llm is not None and any(kind.reads_llm for kind in needs):
        text_config = llm.get_text_config()
        dtype = DTYPES[options.llm_dtype]
        table = torch.zeros(text_config.vocab_size, text_config.hidden_size, dtype=dtype)
    with default_dtype(run.dtype), Counter():  # which answers where a head asks for values of the LLM's embeddings
        adapter = Stage1Adapter(
            adapter_config(options, network.width, vocabulary, _rate(network)),
            decode_token=vocabulary - 1,
            pad_token=0,
            objectives=objective,
            options=options,
            llm_embeddings=table,
            projector=options.projector,
        )
        model = AdaptedModel(cast(Any, Unheard(_mixed(network, layer))), adapter, {})
    _recompute(adapter, options)
    tokens, llm_tokens = run.tokens(0), run.tokens(1)

    def step(batch: int) -> None:
        values, padding_mask = _heard(run, network, layer, batch)
        words = torch.zeros(batch, tokens, dtype=torch.long)
        keys = torch.arange(batch)
        text = Stage1Text(
            words,
            words > 0,
            keys,
            keys,
            torch.zeros(batch, llm_tokens, dtype=torch.long) if table is not None else None,
            Foreign(words, words > 0, keys) if any(kind.reads_translations for kind in needs) else None,
            [tokens] * batch,
            [llm_tokens] * batch,
        )
        sums = adapter(model.encode_speech(values, padding_mask).values, padding_mask, text, 1)
        sum(weight * sums[name]["sum"] for name, weight in objective.items()).backward()

    held = 0 if table is None else table.numel() * table.element_size()

    def look(batch: int) -> Stage:
        adapter.zero_grad(set_to_none=True)  # of the look before
        peak = peak_of(lambda: _update(run, step, batch), vocabulary)
        return _measured(run, 0, batch, adapter, held, network, peak, _encoder_peak(run, batch, network, layer))

    return look


def _stage2(run: Run, network: Any, config: Any, layer: Layer = "last") -> Look:
    text_config = config.get_text_config()
    options = _options(run, SpeechLLMConfig())
    llm = build_llm(config, DTYPES[run.llm_dtype], options.attn_implementation, options.llm_gradient_checkpointing)
    held = weight_bytes(llm.model)
    table = None
    if options.compress_queries or compresses(run.adapter):
        table = torch.zeros(text_config.vocab_size, text_config.hidden_size, dtype=DTYPES[run.llm_dtype])
        held += table.numel() * table.element_size()
    objective = parse_stage2(run.objective_stage2)
    check_lora_options(options, training=True)

    def made() -> Unjoined:
        return Unjoined(
            adapter_config(options, network.width, 1, _rate(network)),
            text_config.hidden_size,
            projector=options.projector,
            freeze_qformer=options.freeze_qformer,
            llm_embeddings=table,
            soft_tokens=options.soft_tokens,
        )

    with as_made():  # in fp32, of which peft makes nothing else
        lora = add_lora(llm.model, options, "the LLM")
    with default_dtype(run.dtype), Counter():
        adapter = made()
        adapter.lora = None if lora is None else in_precision(lora, run.dtype)
        start = made() if reads_start(objective) else None
        model = speech_llm(adapter, llm, objective, _mixed(network, layer), start)
    for own in model.objectives.values():
        own.settle(options)
    _recompute(adapter, options)
    held += 0 if start is None else weight_bytes(adapter)
    transcript, tokens = run.tokens(1), run.tokens(2)

    def step(batch: int) -> None:
        values, _ = _heard(run, network, layer, batch)
        prompt = torch.zeros(batch, PROMPT_TOKENS, dtype=torch.long)
        reading = torch.zeros(batch, PROMPT_TOKENS + transcript, dtype=torch.long)
        answer = torch.zeros(batch, tokens, dtype=torch.long)
        stage2_loss(model, values, prompt, answer, reading).backward()

    def look(batch: int) -> Stage:
        adapter.zero_grad(set_to_none=True)  # of the look before
        peak = peak_of(lambda: _update(run, step, batch), text_config.vocab_size)
        return _measured(run, 1, batch, adapter, held, network, peak, _encoder_peak(run, batch, network, layer))

    return look


def _update(run: Run, step: Callable[[int], None], batch: int) -> None:
    """The batches of an update; from the second on they find gradients, and a third finds what the second did."""
    for _ in range(min(run.update_freq, 2)):
        step(batch)


def _rate(network: Any) -> float:
    """Frames a second."""
    return network.sample_rate / network.samples_per_frame


def _mixed(network: Any, layer: Layer) -> int:
    """How many layers a learned sum is taken of; 0: of none."""
    return network.depth if layer == "weighted" else 0


def _recompute(adapter: Any, options: Any) -> None:
    if adapter.qformer is not None:
        adapter.qformer.gradient_checkpointing = options.qformer_gradient_checkpointing


def _heard(run: Run, network: Any, layer: Layer, batch: int) -> tuple[Tensor, Tensor]:
    """What the encoder gives for a batch, (B, T, W) or of all layers (B, T, L, W), and its padding mask (B, T)."""
    frames = _frames(run, network)
    shape = (batch, frames, *([network.depth] if layer == "weighted" else []), network.width)
    dtype = run.dtype if run.from_store else DTYPES[run.encoder_dtype]
    return torch.zeros(shape, dtype=dtype), torch.zeros(batch, frames, dtype=torch.bool)


def _frames(run: Run, network: Any) -> int:
    return network.frames(round(run.mean_seconds * RATE))


def _encoder_peak(run: Run, batch: int, network: Any, layer: Layer) -> Peak:
    if run.from_store:
        return Peak()
    samples = round(run.mean_seconds * RATE)
    return peak_of(lambda: encode(network, torch.zeros(batch, samples), layer))


def _measured(
    run: Run, stage: int, batch: int, adapter: nn.Module, llm: int, network: nn.Module, step: Peak, encoding: Peak
) -> Stage:
    """Put together what is there all the time and what is there at the worst moment of a step.

    Moments: the encoder listens; forward and backward; the optimizer's step, when activations are gone.
    """
    trained = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    count = sum(parameter.numel() for parameter in trained)
    largest = max(parameter.numel() for parameter in trained)
    size = run.dtype.itemsize
    gradients = count * size
    efficient = run.precision.startswith("memory-efficient")
    state, passing = OPTIMIZERS[run.optimizer]
    if not run.half:
        optimizer, stepping = state * count, passing * largest
    elif efficient:  # in fp32, tensor by tensor
        optimizer, stepping = state * count, (passing + 8) * largest
    else:  # weights and gradients once more in fp32, all in one tensor
        optimizer, stepping = (state + 8) * count, passing * count
    kept = gradients if run.update_freq > 1 else 0  # while the encoder hears the second of the batches
    forward = max(encoding.total + kept, step.total)
    worst = max(forward, gradients + stepping)
    utterances = run.hours * 3600 / run.mean_seconds
    an_epoch = math.ceil(utterances / (batch * run.gpus * run.update_freq))
    return Stage(
        name=STAGES[stage],
        trained_parameters=count,
        frozen=llm + (0 if run.from_store else weight_bytes(network)),
        trained=weight_bytes(adapter),
        gradients=gradients,
        optimizer=optimizer,
        exchange=min(count, 2**28) * size if run.gpus > 1 else 0,
        activations=worst - gradients,
        logits=step.logits if forward == worst and step.total >= encoding.total + kept else 0,
        batch=batch,
        steps_an_epoch=an_epoch,
        steps=math.ceil(run.epochs * utterances / (batch * run.gpus * run.update_freq)),
        checkpoint=_checkpoint(run, weight_bytes(adapter), count, optimizer=True),
        checkpoint_without_optimizer=_checkpoint(run, weight_bytes(adapter), count, optimizer=False),
    )


def _checkpoint(run: Run, weights: int, count: int, optimizer: bool) -> int:
    """Weights; the optimizer's state, and where the trainer keeps an fp32 copy of the weights, that copy."""
    copy = run.half and not run.precision.startswith("memory-efficient")
    return weights + ((OPTIMIZERS[run.optimizer][0] + (4 if copy else 0)) * count if optimizer else 0)
