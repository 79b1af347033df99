"""Does `sparqle plan` foretell the memory that training takes? Eight settings, planned and then run.

The peer is the resident memory of a process that takes two training steps of the setting on the CPU, in fp32, with
fairseq's Adam: its highest point beyond what the process held before the models were built.

    python benchmarks/plan_memory.py
"""

from __future__ import annotations

import json
import os
import platform
import sys
import warnings
from functools import partial
from typing import Any

from alternate import ALLOCATOR, peak_bytes

SMALL = (("hidden_size", 512), ("heads", 8), ("ffn_size", 2048))
VOCABULARY = 30522


def settings() -> dict[str, tuple[Any, int]]:
    """Name -> run, stage."""
    from sparqle_fairseq.tools.plan.parts import LLMSize
    from sparqle_fairseq.tools.plan.plan import Run

    same: dict[str, Any] = {"precision": "fp32", "llm_dtype": "fp32", "mean_seconds": 6.0, "batch_multiple": 1}
    llm = LLMSize(60e6, 512, 8, 32000)
    features = Run("base", None, qformer=(*SMALL, ("layers", 4)), from_store=True, max_tokens=(8 * 96000,) * 2, **same)
    audio = Run("base", None, qformer=(*SMALL, ("layers", 2)), max_tokens=(3 * 96000,) * 2, **same)
    answers = Run("base", llm, qformer=(*SMALL, ("layers", 4)), from_store=True, max_tokens=(6 * 96000,) * 2, **same)
    to_llm = Run(
        "base", llm, "llm-ctc", qformer=(*SMALL, ("layers", 4)), from_store=True, max_tokens=(16 * 96000,) * 2, **same
    )
    two = (*SMALL, ("layers", 2))
    windows = (("query_window_seconds", 0.5), ("queries_per_window", 4), ("qformer_gradient_checkpointing", True))
    windowed = Run(
        "base", None, "stg-outputs+stc", qformer=(*SMALL, ("layers", 4), *windows), from_store=True,
        max_tokens=(8 * 96000,) * 2, **same,
    )  # fmt: skip
    long_texts = Run(
        "base", None, qformer=two, text_vocabulary=119547, tokens_a_second=(20.0,) * 3, from_store=True,
        max_tokens=(4 * 96000,) * 2, **same,
    )  # fmt: skip
    lora = (("lora_rank", 16), ("lora_target", "all-linear"), ("llm_gradient_checkpointing", True))
    taught = Run(
        "base", llm, objective_stage2="distill", qformer=(*two, *lora), from_store=True,
        max_tokens=(12 * 96000,) * 2, **same,
    )  # fmt: skip
    compared = Run(
        "base", llm, objective_stage2="answer+minimum-risk", qformer=(*two, ("projector", "mlp"), ("candidates", 3)),
        from_store=True, max_tokens=(4 * 96000,) * 2, **same,
    )  # fmt: skip
    return {
        "stage 1 in windows, Q-Former recomputed": (windowed, 0),
        "stage 1, 119,547 word pieces, 120 of them a text": (long_texts, 0),
        "stage 2 by distillation, LLM recomputed, LoRA": (taught, 1),
        "stage 2 by minimum risk of 3 answers": (compared, 1),
        "stage 1 of llm-ctc from features, LLM of 60 M": (to_llm, 0),
        "stage 1 from features, Q-Former 4 x 512": (features, 0),
        "stage 1 from audio, HuBERT base": (audio, 0),
        "stage 2 from features, LLM of 60 M": (answers, 1),
    }


def train(run: Any, stage: int) -> None:
    """Two steps with real weights and batches: other transcripts in each row, so that each has negatives."""
    import torch
    from fairseq.optim.adam import Adam

    from sparqle_fairseq.models.config import PretrainModelConfig, SpeechLLMConfig, adapter_config
    from sparqle_fairseq.models.llm.lora import add_lora
    from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
    from sparqle_fairseq.models.stage1.batch import Stage1Text
    from sparqle_fairseq.models.stage1.objectives import parse_objective
    from sparqle_fairseq.models.stage2.adapter import Stage2Adapter
    from sparqle_fairseq.models.stage2.objectives import parse_objective as parse_stage2
    from sparqle_fairseq.tools.plan import parts, plan

    torch.manual_seed(0)
    batch = run.batch(stage)
    samples = round(run.mean_seconds * plan.RATE)
    frames = (samples - 80) // 320  # of HuBERT's convolutions
    encoder = None if run.from_store else parts.build_encoder(run.encoder).eval().requires_grad_(False)
    llm, loss = None, None
    if stage == 0:
        options = plan._options(run, PretrainModelConfig())
        config = adapter_config(options, 768, run.text_vocabulary + 1, 50.0)
        table = None if run.llm is None else torch.randn(run.llm.vocabulary, run.llm.width)
        objective = parse_objective(run.objective)
        adapter: Any = Stage1Adapter(
            config,
            decode_token=run.text_vocabulary,
            pad_token=0,
            objectives=objective,
            options=options,
            llm_embeddings=table,
            projector=options.projector,
        )
        words, llm_words = (torch.randint(1, VOCABULARY, (batch, run.tokens(kind))) for kind in (0, 1))
        text = Stage1Text(words, words == 0, torch.arange(batch), torch.arange(batch), llm_words)
        padding_mask = torch.zeros(batch, frames, dtype=torch.bool)

        def loss(values: Any) -> Any:
            return sum(own["sum"] for own in adapter(values, padding_mask, text, 1).values())
    else:
        options = plan._options(run, SpeechLLMConfig())
        recompute = options.llm_gradient_checkpointing
        llm = parts.build_llm(parts.llm_config(run.llm), torch.float32, recompute=recompute)
        config = adapter_config(options, 768, 1, 50.0)
        adapter = Stage2Adapter(config, llm.width, projector=options.projector)
        adapter.lora = add_lora(llm.model, options, "the LLM")
        model = parts.speech_llm(adapter, llm, parse_stage2(run.objective_stage2))
        for own in model.objectives.values():
            own.settle(options)
        lengths = (plan.PROMPT_TOKENS, plan.PROMPT_TOKENS + run.tokens(1), run.tokens(2))
        prompt, reading, answer = (torch.randint(0, run.llm.vocabulary, (batch, length)) for length in lengths)

        def loss(values: Any) -> Any:
            return parts.stage2_loss(model, values, prompt, answer, reading)

    if adapter.qformer is not None:
        adapter.qformer.gradient_checkpointing = options.qformer_gradient_checkpointing
    optimizer = Adam([parameter for parameter in adapter.parameters() if parameter.requires_grad], lr=1e-5)
    for _ in range(2):
        values = torch.randn(batch, frames, 768)
        if encoder is not None:
            values = parts.encode(encoder, torch.randn(batch, samples))
        loss(values).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def prepared() -> None:
    """Start over with an allocator that gives memory back, and load the libraries before anything is measured."""
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": "1"})
    ready()


def ready() -> None:
    """Load the libraries, which a training holds and which are no part of what is planned."""
    warnings.simplefilter("ignore")
    import torch

    import sparqle_fairseq

    sparqle_fairseq.register()
    torch.set_num_threads(1)
    import fairseq.optim.adam
    import peft.tuners.lora  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    assert fairseq.optim.adam
    small = torch.nn.Linear(64, 64)
    small(torch.randn(64, 64)).sum().backward()


def main() -> None:
    prepared()
    import torch

    from sparqle_fairseq.tools.plan.plan import plan

    rows = []
    for name, (run, stage) in settings().items():
        measured = peak_bytes(partial(train, run, stage))
        planned = plan(run).stages[stage].memory
        rows.append({"setting": name, "planned": planned, "measured": measured, "ratio": planned / measured})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}\n")
    print("| setting | planned | measured | planned / measured |\n|---|---|---|---|")
    for row in rows:
        planned, measured = (f"{row[key] / 1e6:.0f} MB" for key in ("planned", "measured"))
        print(f"| {row['setting']} | {planned} | {measured} | {row['ratio']:.2f} |")


if __name__ == "__main__":
    main()
