"""What a step of either stage takes on a device, with random weights of any size: seconds, throughput, memory.

The settings are those of `sparqle plan`, so that its memory stands beside what was held. Operations of products are
counted as the benchmarks count them, and stand beside what one large product reaches on the device.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from alternate import Gemm, product_flops_by_precision
from fairseq.optim.adam import Adam

from sparqle_fairseq.models.config import DTYPES, PretrainModelConfig, SpeechLLMConfig, qformer_config
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Stage1Text
from sparqle_fairseq.models.stage1.objectives import parse_objective
from sparqle_fairseq.models.stage2.adapter import Stage2Adapter
from sparqle_fairseq.tools.plan import parts, plan


@dataclass(frozen=True)
class Figures:
    """Of one step, the mean of several after a first one."""

    stage: str
    device: str
    utterances: int
    seconds: float
    tokens_a_second: float
    hours_of_audio_an_hour: float
    memory: int | None  # bytes at the highest point; None where the device does not say
    planned: int  # bytes
    operations: dict[str, float]  # floating-point ones of the step's products and convolutions, by precision
    peak: dict[str, float]  # operations a second of one large matrix product in each of these precisions
    share_of_the_gemm_peak: float  # the time of the step's operations at these peaks, over that of the step


def measure(run: plan.Run, stage: int, device: torch.device, steps: int = 3, gemm_size: int = 8192) -> Figures:
    """Train a stage of a run for some steps, its trained weights in fp32, what is frozen as the run says.

    The peaks are those of products of `gemm_size` x `gemm_size`.
    """
    torch.manual_seed(0)
    batch = run.batch(stage)
    tokens, samples = round(run.mean_seconds * plan.TOKENS_A_SECOND), round(run.mean_seconds * plan.RATE)
    encoder = parts.build_encoder(run.encoder).eval().requires_grad_(False).to(device, DTYPES[run.encoder_dtype])
    source = torch.randn(batch, samples, device=device, dtype=DTYPES[run.encoder_dtype])
    loss = (_stage1 if stage == 0 else _stage2)(run, encoder.width, batch, tokens, device)
    adapter = loss.adapter
    optimizer = Adam([parameter for parameter in adapter.parameters() if parameter.requires_grad], lr=1e-5)

    def step() -> None:
        loss(parts.encode(encoder, source).float()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    on_cuda = device.type == "cuda"
    step()
    _wait(device)
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    seconds = (time.perf_counter() - begun) / steps
    memory = torch.cuda.max_memory_allocated() if on_cuda else None
    operations = product_flops_by_precision(step)  # takes attention apart, and more memory
    peak = {dtype: gemm_peak(device, gemm_size, dtype) for dtype in operations}
    return Figures(
        plan.STAGES[stage],
        torch.cuda.get_device_name(device) if on_cuda else "CPU",
        batch,
        seconds,
        batch * tokens / seconds,
        batch * run.mean_seconds / seconds,
        memory,
        plan.plan(run).stages[stage].memory,
        {_name(dtype): count for dtype, count in operations.items()},
        {_name(dtype): reached for dtype, reached in peak.items()},
        share_of_peak(operations, peak, seconds),
    )


def gemm_peak(device: torch.device, size: int, dtype: torch.dtype, tries: int = 3) -> float:
    """Floating-point operations a second of a product of `size` x `size`: the best of some tries."""
    gemm, took = Gemm(device, size, dtype), []
    gemm()
    for _ in range(tries):
        _wait(device)
        begun = time.perf_counter()
        gemm()
        _wait(device)
        took.append(time.perf_counter() - begun)
    return gemm.flops / min(took)


def share_of_peak(operations: Mapping[Any, float], peak: Mapping[Any, float], seconds: float) -> float:
    """How much of `seconds` operations take at their precision's peak."""
    return sum(count / peak[precision] for precision, count in operations.items()) / seconds


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Loss:
    def __init__(self, adapter: Any, of: Any) -> None:
        self.adapter, self._of = adapter, of

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self._of(values)
        return found


def _stage1(run: plan.Run, width: int, batch: int, tokens: int, device: torch.device) -> _Loss:
    config = qformer_config(plan._options(run, PretrainModelConfig()), width, run.text_vocabulary + 1, 50.0)
    objectives = parse_objective(run.objective)
    adapter = Stage1Adapter(config, decode_token=run.text_vocabulary, pad_token=0, objectives=objectives).to(device)
    words = torch.randint(1, run.text_vocabulary, (batch, tokens), device=device)
    keys = torch.arange(batch, device=device)
    text = Stage1Text(words, words == 0, keys, keys, lengths=[tokens] * batch)

    def loss(values: torch.Tensor) -> Any:
        padding_mask = torch.zeros(values.shape[:2], dtype=torch.bool, device=device)
        return sum(own["sum"] for own in adapter(values, padding_mask, text, 1).values())

    return _Loss(adapter, loss)


def _stage2(run: plan.Run, width: int, batch: int, tokens: int, device: torch.device) -> _Loss:
    assert run.llm is not None
    with device:
        llm: Any = parts.build_llm(parts.llm_config(run.llm), DTYPES[run.llm_dtype])
    options = plan._options(run, SpeechLLMConfig())
    adapter = Stage2Adapter(qformer_config(options, width, 1, 50.0), llm.width).to(device)
    prompt = torch.randint(0, llm.vocab_size, (batch, plan.PROMPT_TOKENS), device=device)
    answer = torch.randint(0, llm.vocab_size, (batch, tokens), device=device)

    model = parts.speech_llm(adapter, llm)

    def loss(values: torch.Tensor) -> Any:
        with device:
            return parts.stage2_loss(model, values, prompt, answer, prompt)

    return _Loss(adapter, loss)
