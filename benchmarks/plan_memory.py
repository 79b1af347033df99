"""Does `sparqle plan` foretell the memory that training takes? Four settings, planned and then run.

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
    return {
        "stage 1 of llm-ctc from features, LLM of 60 M": (to_llm, 0),
        "stage 1 from features, Q-Former 4 x 512": (features, 0),
        "stage 1 from audio, HuBERT base": (audio, 0),
        "stage 2 from features, LLM of 60 M": (answers, 1),
    }


def train(run: Any, stage: int) -> None:
    """Two steps with real weights and batches: other transcripts in each row, so that each has negatives."""
    import torch
    from fairseq.optim.adam import Adam

    from sparqle_fairseq.models.config import PretrainModelConfig, SpeechLLMConfig, qformer_config
    from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
    from sparqle_fairseq.models.stage1.batch import Stage1Text
    from sparqle_fairseq.models.stage1.objectives import parse_objective
    from sparqle_fairseq.models.stage2.adapter import Stage2Adapter
    from sparqle_fairseq.tools.plan import parts, plan

    torch.manual_seed(0)
    batch, tokens = run.batch(stage), round(run.mean_seconds * plan.TOKENS_A_SECOND)
    samples = round(run.mean_seconds * plan.RATE)
    frames = (samples - 80) // 320  # of HuBERT's convolutions
    encoder = None if run.from_store else parts.build_encoder(run.encoder).eval().requires_grad_(False)
    llm, loss = None, None
    if stage == 0:
        options = plan._options(run, PretrainModelConfig())
        config = qformer_config(options, 768, VOCABULARY + 1, 50.0)
        table = None if run.llm is None else torch.randn(run.llm.vocabulary, run.llm.width)
        objective = parse_objective(run.objective)
        adapter: Any = Stage1Adapter(
            config, decode_token=VOCABULARY, pad_token=0, objectives=objective, llm_embeddings=table
        )
        words = torch.randint(1, VOCABULARY, (batch, tokens))
        text = Stage1Text(words, words == 0, torch.arange(batch), torch.arange(batch), words)
        padding_mask = torch.zeros(batch, frames, dtype=torch.bool)

        def loss(values: Any) -> Any:
            return sum(own["sum"] for own in adapter(values, padding_mask, text, 1).values())
    else:
        llm = parts.build_llm(parts.llm_config(run.llm), torch.float32)
        options = plan._options(run, SpeechLLMConfig())
        adapter = Stage2Adapter(qformer_config(options, 768, 1, 50.0), llm.config.hidden_size)
        prompt = torch.randint(0, run.llm.vocabulary, (batch, plan.PROMPT_TOKENS))
        answer = torch.randint(0, run.llm.vocabulary, (batch, tokens))

        def loss(values: Any) -> Any:
            return parts.answer_loss(adapter, llm, values, prompt, answer)

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
