"""An LLM whose layers are divided among processes: the same numbers, less memory, and what does not go with it."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import tiny
import torch
import torch.distributed as dist
from commands import command, finetune_arguments, generate, train_here
from processes import in_processes

from sparqle_fairseq.errors import SparqleError, sentence_of
from sparqle_fairseq.models.llm.llm import LLMOptions, load_llm
from sparqle_fairseq.models.llm.sharding import check_sharding, processes_of_machine


def adapter(world):
    """An encoder and a new adapter for stage 2."""
    sizes = ["--hidden-size", 32, "--layers", 2, "--heads", 4, "--ffn-size", 64, "--queries", 6]
    return ["--speech-encoder", world.encoder, *sizes]


def answer(llm, rank):
    """Logits, and the gradient of the embeddings that went in; of this rank's own input."""
    generator = torch.Generator().manual_seed(rank)
    spoken = torch.randn(3, 7 + rank, llm.width, generator=generator).requires_grad_()
    logits, _ = llm(spoken, torch.ones(3, 7 + rank, dtype=torch.bool), logits_to_keep=4)
    logits.float().square().mean().backward()
    return logits.detach(), spoken.grad


def compare(rank, world, path, dtype, sharding, checkpointing):
    """The largest difference between the divided and the whole LLM, and this rank's share of the layers' weights."""
    if sharding == "machine":
        os.environ["LOCAL_WORLD_SIZE"] = str(world // 2)
    whole = load_llm(path, LLMOptions(dtype))
    divided = load_llm(path, LLMOptions(dtype, gradient_checkpointing=checkpointing, sharding=sharding))
    worst = torch.zeros(1)
    for expected, found in zip(answer(whole, rank), answer(divided, rank), strict=True):
        assert expected.abs().max() > 0
        worst = torch.maximum(worst, (found - expected).abs().max() / expected.abs().max())
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)

    def held(llm):
        return sum(
            (p.to_local() if hasattr(p, "to_local") else p).numel()
            for name, p in llm.model.named_parameters()
            if ".layers." in name
        )

    again = divided.identity == whole.identity and divided.embed(torch.tensor([3])).equal(
        whole.embed(torch.tensor([3]))
    )
    return float(worst), held(divided) / held(whole), again


@pytest.mark.parametrize(
    ("world", "dtype", "sharding", "checkpointing"),
    [
        (2, torch.float32, "all", False),
        (2, torch.bfloat16, "all", True),
        pytest.param(4, torch.float32, "machine", False, marks=pytest.mark.long),
    ],
)
def test_a_divided_llm_gives_the_same_logits_and_gradients(world, dtype, sharding, checkpointing, tmp_path):
    path = tiny.save_llm(tmp_path / "llm")
    worst, share, same = in_processes(compare, world, str(path), dtype, sharding, checkpointing)
    assert worst < 1e-5
    assert same
    assert share == pytest.approx(0.5, abs=0.02)  # 4 processes are 2 machines of 2


def test_how_many_processes_a_machine_runs():
    assert processes_of_machine({"LOCAL_WORLD_SIZE": "4", "SLURM_NTASKS_PER_NODE": "8"}, 8) == 4
    assert processes_of_machine({"SLURM_NTASKS_PER_NODE": "8"}, 64) == 8
    with pytest.raises(SparqleError, match="same number on every machine"):
        processes_of_machine({"LOCAL_WORLD_SIZE": "3"}, 8)
    with pytest.raises(SparqleError, match="--ntasks-per-node"):
        processes_of_machine({}, 8)


def test_what_cannot_go_with_a_divided_llm_is_refused():
    options = SimpleNamespace(llm_sharding="all", llm_quantization="none", lora_rank=0)
    assert check_sharding(options, training=True, eval_generate=False) == "all"
    assert check_sharding(options, training=False, eval_generate=True) == "none", "a trained model is read whole"
    with pytest.raises(SparqleError, match="--eval-generate"):
        check_sharding(options, training=True, eval_generate=True)
    options.llm_quantization = "4bit"
    with pytest.raises(SparqleError, match="--llm-quantization"):
        check_sharding(options, training=True, eval_generate=False)


def test_one_process_has_nobody_to_divide_with(world, tmp_path):
    with pytest.raises(Exception) as error:  # noqa: PT011
        train_here(finetune_arguments(world, tmp_path / "run", *adapter(world), "--llm-sharding", "all", updates=1))
    assert "there is one" in sentence_of(error.value)


def test_lora_does_not_go_with_a_divided_llm(world, tmp_path):
    with pytest.raises(Exception) as error:  # noqa: PT011
        train_here(finetune_arguments(world, tmp_path, *adapter(world), "--llm-sharding", "all", "--lora-rank", 2))
    assert "--lora-rank trains it" in sentence_of(error.value)


@pytest.mark.long
def test_training_with_a_divided_llm_is_training_with_a_whole_one(world, tmp_path):
    """Uneven batches and a validation among them; generation then reads the LLM whole."""
    for sharding in ("none", "all"):
        arguments = finetune_arguments(
            world, tmp_path / sharding, *adapter(world), "--llm-sharding", sharding, "--batch-size", 5, updates=6
        )
        command("sparqle", "launch", "-n", 2, "fairseq-train", *arguments)
    whole, divided = (
        torch.load(tmp_path / sharding / "checkpoint_last.pt", weights_only=True)["model"]
        for sharding in ("none", "all")
    )
    assert whole.keys() == divided.keys()
    for name, value in whole.items():
        torch.testing.assert_close(divided[name], value, atol=1e-5, rtol=1e-5, msg=name)
    generate(world, tmp_path / "all" / "checkpoint_last.pt", "sparqle_finetune", "test_fr")


def mebibytes():
    """This process's memory: that of its own, and pages of files that it shares."""
    sizes = {}
    with open("/proc/self/smaps_rollup") as lines:
        for line in lines:
            name, *rest = line.split()
            if rest[-1] == "kB":
                sizes[name.rstrip(":")] = int(rest[0]) / 1024
    return sizes["Private_Dirty"], sizes["Shared_Clean"]


def load_and_measure(_rank, _world, path):
    """Growth of (own, shared) memory by loading as stored, in another precision, and that divided."""
    import ctypes
    import gc

    load_llm(path, LLMOptions(torch.bfloat16))  # what importing and reading themselves take
    gc.collect()
    grown = []
    for options in (
        LLMOptions(torch.bfloat16),
        LLMOptions(torch.float32),
        LLMOptions(torch.float32, sharding="all"),
    ):
        before = mebibytes()
        llm = load_llm(path, options)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is free already, and the C library has kept for later
        dist.barrier()
        after = mebibytes()
        dist.barrier()
        grown.append([now - then for now, then in zip(after, before, strict=True)])
        del llm
        gc.collect()
    return grown


@pytest.fixture(scope="module")
def memory_of_two(tmp_path_factory):
    """MiB (own, shared) that an LLM of 193 MiB in bf16 adds to each of two processes: stored, fp32, fp32 divided."""
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tiny.save_llm(tmp_path_factory.mktemp("large") / "llm")
    config = LlamaConfig.from_pretrained(path)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 1024, 4096, 6
    config.num_attention_heads = config.num_key_value_heads = 16
    config.head_dim = 64
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    size = 2 * sum(parameter.numel() for parameter in model.parameters()) / 2**20
    model.save_pretrained(path)
    del model
    stored, other, divided = in_processes(load_and_measure, 2, str(path))
    print(f"\n{size:.0f} MiB: stored {stored}, fp32 {other}, fp32 divided {divided}")
    return size, stored, other, divided


@pytest.mark.long
def test_processes_of_a_machine_share_the_file_of_an_llm(memory_of_two):
    size, stored, other, _ = memory_of_two
    assert stored[0] < 0.1 * size, "a private copy of what could be shared"
    assert stored[1] > 0.9 * size
    assert other[0] == pytest.approx(2 * size, rel=0.15), "another precision is a copy of its own"


@pytest.mark.long
def test_two_processes_hold_half_of_an_llm_each(memory_of_two):
    _, _, other, divided = memory_of_two
    assert divided[0] == pytest.approx(other[0] / 2, rel=0.2)
