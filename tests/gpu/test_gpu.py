"""What only CUDA can show: `make test-gpu`. Not run on a GPU so far.

Each test writes what it measured into build/gpu/report.json, which a person can paste into an issue.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from commands import ROOT, command, pretrain_arguments
from measure import measure
from training import stage2_arguments

from sparqle_fairseq.files import write_text
from sparqle_fairseq.tools.plan.parts import LLMSize
from sparqle_fairseq.tools.plan.plan import Run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
REPORT = ROOT / "build" / "gpu" / "report.json"
# HuBERT-large, the base Q-Former and an LLM of the size of Llama 3.1 8B, with random weights.
REAL = Run(
    "large", LLMSize(8.03e9, 4096, 32, 128256), mean_seconds=12.3, max_tokens=(2_000_000, 1_000_000),
    precision="fp32", encoder_dtype="bf16", llm_dtype="bf16",
)  # fmt: skip


@pytest.fixture(scope="module")
def report():
    found: dict[str, object] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        found["devices"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield found
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_text(REPORT, json.dumps(found, indent=2) + "\n")


def trained(report, name, arguments, launch=()):
    """Run the command without --cpu and note that it ended well, with its last line of training."""
    words = [word for word in arguments if word != "--cpu"]
    # A real start: a fork of a process that has looked for CUDA cannot use it.
    if launch:
        done = command("sparqle", "launch", *launch, "fairseq-train", *words, start=True)
    else:
        done = command("fairseq-train", *words, start=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "| loss " in line or '"loss"' in line]
    report[name] = lines[-1] if lines else "ended well"


@pytest.mark.parametrize("precision", ["--fp16", "--bf16"])
@pytest.mark.parametrize("stage", [pretrain_arguments, stage2_arguments])
def test_both_stages_train_in_half_precision_and_resume(world, tmp_path, report, stage, precision):
    for updates in (4, 8):
        trained(report, f"{stage.__name__} {precision} {updates}", stage(world, tmp_path, precision, updates=updates))
    assert (tmp_path / "checkpoint_last.pt").is_file()


def test_the_llm_in_4_bits(world, tmp_path, report):
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    trained(report, "4 bits", stage2_arguments(world, tmp_path, "--bf16", "--llm-quantization", "4bit"))


def test_flash_attention(world, tmp_path, report):
    pytest.importorskip("flash_attn", reason="flash-attn is not installed")
    more = ["--bf16", "--llm-dtype", "bf16", "--attn-implementation", "flash_attention_2"]
    trained(report, "flash attention", stage2_arguments(world, tmp_path, *more))


@pytest.mark.parametrize("sharding", ["none", "machine"])
def test_two_processes_over_nccl(world, tmp_path, report, sharding):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one CUDA device, and this takes two")
    arguments = stage2_arguments(world, tmp_path, "--bf16", "--llm-sharding", sharding)
    trained(report, f"two processes, sharding {sharding}", arguments, launch=("-n", 2))


@pytest.mark.parametrize("stage", [0, 1])
def test_memory_and_throughput_of_the_real_sizes(report, stage):
    total = torch.cuda.mem_get_info()[1]
    if total < 80e9:
        pytest.skip(f"the device has {total / 1e9:.0f} GB, and the sizes of the README take 80")
    found = measure(REAL, stage, torch.device("cuda", 0))
    report[found.stage] = asdict(found)
    assert found.memory is not None
    assert found.memory == pytest.approx(found.planned, rel=0.15)
