"""LoRA: it alone is trained beside the adapter, it is saved with it, and it can be taken over, left out and merged."""

from __future__ import annotations

import copy
import sys
from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from commands import finetune_arguments, train_here
from generation import OPTIONS, answers, generate
from tiny_models import batch, build, build_stage2, build_stage2_from, save_adapter, stage2_arguments

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.identity import STATE_NAME
from sparqle_fairseq.tasks.loading import load_trained

LORA = ("--lora-rank", "4", "--lora-alpha", "8")
SMALL = ("--hidden-size", "32", "--layers", "1", "--heads", "4", "--ffn-size", "64", "--queries", "4")
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def trained_tensors(built: Any) -> dict[str, torch.Tensor]:
    return dict(built.model.adapter.lora.named_parameters())


def make_it_matter(built: Any) -> Any:
    """B starts at 0, and LoRA with it: give it weights that change the logits."""
    with torch.no_grad():
        for name, value in built.model.adapter.lora.named_parameters():
            if name.endswith("B.weight"):
                value.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
    return built


@pytest.fixture(scope="module")
def built(world):
    return make_it_matter(build_stage2(world, *LORA))


def logits_of(built: Any, rows: range = range(4)) -> torch.Tensor:
    """In the mode that the model is in."""
    with torch.no_grad():
        return built.model(**batch(built, "train2", rows)["net_input"])


def test_without_the_option_nothing_changes(world, stage2):
    """Not a name of the checkpoint, not a random number, not a parameter of the LLM."""
    assert not any("lora" in name for name in stage2.model.state_dict())
    assert not any("lora" in name for name, _ in stage2.model.llm.model.named_parameters())
    again = build_stage2(world, "--lora-rank", "0")
    assert list(again.model.state_dict()) == list(stage2.model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), stage2.model.parameters(), strict=True))


def test_a_new_lora_changes_no_logit(world, stage2):
    fresh = build_stage2(world, *LORA)
    fresh.model.adapter.load_state_dict(stage2.model.adapter.state_dict(), strict=False)
    torch.testing.assert_close(logits_of(fresh), logits_of(stage2), **CLOSE)


def test_the_trainer_sees_lora_and_nothing_else_of_the_llm(built):
    names = [name for name, _ in built.model.named_parameters() if "lora" in name]
    first = "adapter.lora.model.layers.0.self_attn.q_proj.A.weight"
    assert first in names
    assert len(names) == 2 * 2 * 2, "A and B of q_proj and v_proj in two layers"
    assert not any(name.startswith("llm") for name, _ in built.model.named_parameters())
    assert set(built.model.state_dict()) == {name for name, _ in built.model.named_parameters()} | {STATE_NAME}


def test_a_step_moves_lora_and_leaves_the_llm(world):
    built = make_it_matter(build_stage2(world, *LORA))
    lora = trained_tensors(built)
    frozen = {n: p for n, p in built.model.llm.model.named_parameters() if ".lora_" not in n}
    before = {name: value.clone() for name, value in frozen.items()}
    start = {name: value.detach().clone() for name, value in lora.items()}
    built.model.train()
    loss, _, _ = built.criterion(built.model, batch(built, "train2", range(4)))
    loss.backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in lora.values())
    torch.optim.SGD(built.model.parameters(), lr=0.1).step()
    assert all(not torch.equal(value, start[name]) for name, value in lora.items())
    assert all(value.grad is None and torch.equal(value, before[name]) for name, value in frozen.items())


def test_training_and_generation_run_with_the_same_lora(built, stage2):
    """A hypothesis fed back as the answer gets its scores again, and LoRA has a part in them."""
    sample = batch(built, "test_fr", range(2))
    found = generate(built, sample)
    for i, row in enumerate(found):
        tokens = row[0]["tokens"][None]
        net_input = {name: value[i : i + 1] for name, value in sample["net_input"].items()}
        net_input |= {"answer": tokens, "answer_padding_mask": torch.zeros_like(tokens, dtype=torch.bool)}
        with torch.no_grad():
            expected = built.model(**net_input).log_softmax(dim=-1)[0].gather(1, tokens[0][:, None])[:, 0]
        torch.testing.assert_close(row[0]["positional_scores"], expected, atol=1e-4, rtol=1e-4)
    assert (logits_of(built) - logits_of(stage2)).abs().max() > 0.1


def test_dropout_is_of_training_only(world):
    built = make_it_matter(build_stage2(world, *LORA, "--lora-dropout", "0.5", "--dropout", "0"))
    assert torch.equal(logits_of(built), logits_of(built))
    built.model.train()
    assert not torch.equal(logits_of(built), logits_of(built))
    assert not built.model.llm.model.training, "the LLM's own dropout stays off"


def test_a_copy_of_the_model_runs_with_its_own_lora(built):
    """A moving average of the weights is a deep copy, and both share one LLM."""
    double = SimpleNamespace(task=built.task, model=copy.deepcopy(built.model))
    before = logits_of(built)
    with torch.no_grad():
        for value in double.model.adapter.lora.parameters():
            value.zero_()
    assert (logits_of(double) - before).abs().max() > 0.1
    assert torch.equal(logits_of(built), before)


@pytest.mark.parametrize("llm_dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("trainer", [torch.float16, torch.bfloat16])
def test_lora_is_in_the_trainers_precision_and_the_llm_in_its_own(world, llm_dtype, trainer):
    built = make_it_matter(build_stage2(world, *LORA, "--llm-dtype", llm_dtype))
    built.model.to(trainer)
    built.model.train()
    assert {value.dtype for value in trained_tensors(built).values()} == {trainer}
    frozen = {p.dtype for n, p in built.model.llm.model.named_parameters() if ".lora_" not in n}
    assert frozen == {{"fp32": torch.float32, "bf16": torch.bfloat16}[llm_dtype]}
    loss, _, _ = built.criterion(built.model, batch(built, "train2", range(4)))
    loss.backward()
    grads = [value.grad for value in trained_tensors(built).values()]
    assert all(grad.isfinite().all() and grad.abs().sum() > 0 for grad in grads)


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("k_proj, o_proj", {"k_proj", "o_proj"}),
        ("all-linear", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_the_named_layers_get_lora(world, target, names):
    built = build_stage2(world, *LORA, "--lora-target", target)
    assert {name.rsplit(".", 1)[-1] for name in built.model.adapter.lora.layer_names} == names


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--lora-rank", "-1"], "--lora-rank -1 must be"),
        ([*LORA, "--lora-alpha", "0"], "--lora-alpha 0 must be"),
        ([*LORA, "--lora-dropout", "1"], "--lora-dropout 1 must be"),
        ([*LORA, "--lora-target", "nonsense"], "--lora-target nonsense: .*name some of down_proj, gate_proj"),
        ([*LORA, "--lora-target", "embed_tokens"], "no linear layer"),
        ([*LORA, "--without-lora"], "--without-lora runs a trained checkpoint without"),
    ],
)
def test_a_wrong_option_is_one_sentence(world, options, sentence):
    with pytest.raises(SparqleError, match=sentence) as error:
        build([*stage2_arguments(world), *options])
    assert "\n" not in str(error.value)


def test_without_peft_one_sentence_says_what_to_install(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SparqleError, match=r"pip install 'sparqle-fairseq\[lora\]'"):
        build([*stage2_arguments(world), *LORA])


def test_gpt2s_transposed_layers_get_lora_too(world, tmp_path):
    """Its `Conv1D` is no `nn.Linear`, and merging must know."""
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

    tiny.save_llm(tmp_path / "gpt2")
    (tmp_path / "gpt2" / "model.safetensors").unlink()
    size = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
    old = AutoModelForCausalLM.from_pretrained(world.llm).config
    ids = {"vocab_size": old.vocab_size, "bos_token_id": old.bos_token_id, "eos_token_id": old.eos_token_id}
    GPT2LMHeadModel(GPT2Config(**size, **ids)).save_pretrained(tmp_path / "gpt2")
    built = make_it_matter(build_stage2(SimpleNamespace(**{**vars(world), "llm": tmp_path / "gpt2"}), *LORA))
    assert {name.rsplit(".", 1)[-1] for name in built.model.adapter.lora.layer_names} == {"c_attn"}
    assert logits_of(built).isfinite().all()


class TestPretrainedAdapter:
    """Stage 2 from a stage-2 checkpoint."""

    def test_its_lora_goes_on(self, world, built, tmp_path):
        new = build_stage2_from(world, save_adapter(built, tmp_path / "s.pt"))
        assert (new.cfg.model.lora_rank, new.cfg.model.lora_alpha) == (4, 8)
        old = trained_tensors(built)
        assert all(torch.equal(value, old[name]) for name, value in trained_tensors(new).items())
        new.model.eval()
        torch.testing.assert_close(logits_of(new), logits_of(built), **CLOSE)

    def test_a_lora_can_begin_there(self, world, stage2, tmp_path):
        new = build_stage2_from(world, save_adapter(stage2, tmp_path / "s.pt"), *LORA)
        new.model.eval()
        torch.testing.assert_close(logits_of(new), logits_of(stage2), **CLOSE)

    def test_its_lora_can_be_left_out(self, world, built, tmp_path):
        new = build_stage2_from(world, save_adapter(built, tmp_path / "s.pt"), "--without-lora")
        assert new.model.adapter.lora is None
        assert (new.cfg.model.lora_rank, new.cfg.model.without_lora) == (0, False)

    def test_another_rank_is_refused(self, world, built, tmp_path):
        with pytest.raises(SparqleError, match="has rank 4; leave the option out"):
            build_stage2_from(world, save_adapter(built, tmp_path / "s.pt"), "--lora-rank", "8")


@pytest.fixture(scope="module")
def checkpoint(world, tmp_path_factory):
    """What fairseq-train writes with LoRA, after updates enough to change the LLM."""
    folder = tmp_path_factory.mktemp("lora")
    more = ["--lora-rank", 4, "--lora-target", "all-linear", "--lora-dropout", 0.1, "--speech-encoder", world.encoder]
    train_here(finetune_arguments(world, folder, *more, *SMALL, updates=6))
    return folder / "checkpoint_last.pt"


def test_another_llm_is_refused(checkpoint, tmp_path):
    with pytest.raises(SparqleError, match="trained with another LLM: its weights was"):
        load_trained(checkpoint, llm=str(tiny.save_llm(tmp_path / "other", seed=9)), cpu=True)


def test_the_same_checkpoint_runs_without_its_lora(checkpoint, world):
    on, off = load_trained(checkpoint, cpu=True), load_trained(checkpoint, without_lora=True, cpu=True)
    on.task.cfg.data = off.task.cfg.data = str(world.data)
    differ = logits_of(on) - logits_of(off)
    assert differ.abs().max() > 1e-3
    with torch.no_grad():
        for value in on.model.adapter.lora.parameters():
            value.zero_()
    torch.testing.assert_close(logits_of(off), logits_of(on), **CLOSE)


def test_fairseq_generate_runs_without_lora_by_model_overrides(checkpoint, world):
    from fairseq import checkpoint_utils

    overrides = {"without_lora": True, "data": str(world.data)}
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], arg_overrides=overrides)
    off = SimpleNamespace(task=task, model=models[0].eval())
    other = load_trained(checkpoint, without_lora=True, cpu=True)
    other.task.cfg.data = str(world.data)
    assert torch.equal(logits_of(off), logits_of(other))


def test_a_checkpoint_without_lora_has_none_to_leave_out(world, tmp_path):
    train_here(finetune_arguments(world, tmp_path, "--speech-encoder", world.encoder, *SMALL, updates=1))
    with pytest.raises(SparqleError, match="was trained without LoRA; leave --without-lora out"):
        load_trained(tmp_path / "checkpoint_last.pt", without_lora=True, cpu=True)
    assert main(["export-llm", str(tmp_path / "checkpoint_last.pt"), "-o", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()


class TestExport:
    def test_the_merged_llm_gives_the_same_logits(self, checkpoint, tmp_path):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        assert main(["export-llm", str(checkpoint), "-o", str(tmp_path / "merged"), "--merge-lora"]) == 0
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        assert not any("lora" in name for name, _ in merged.named_parameters())
        trained = load_trained(checkpoint, cpu=True).model
        trained.adapter.lora.install(trained.llm.model)
        plain = load_trained(checkpoint, without_lora=True, cpu=True).model
        plain.adapter.lora.install(plain.llm.model)
        tokens = torch.arange(2, 30)[None]
        with torch.no_grad():
            expected, old = trained.llm.model(tokens).logits, plain.llm.model(tokens).logits
            found = merged(tokens).logits
        torch.testing.assert_close(found, expected, **CLOSE)
        assert (found - old).abs().max() > 0.01, "LoRA must matter for this test to say anything"
        text = "red fox runs"
        own = trained.llm.tokenizer
        assert AutoTokenizer.from_pretrained(tmp_path / "merged").encode(text) == own.encode(text)
        assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == own.chat_template

    def test_lora_alone_is_read_by_peft(self, checkpoint, world, tmp_path):
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        assert main(["export-llm", str(checkpoint), "-o", str(tmp_path / "peft")]) == 0
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(world.llm), tmp_path / "peft").eval()
        trained = load_trained(checkpoint, cpu=True).model
        trained.adapter.lora.install(trained.llm.model)
        tokens = torch.arange(2, 30)[None]
        with torch.no_grad():
            torch.testing.assert_close(model(tokens).logits, trained.llm.model(tokens).logits, **CLOSE)

    def test_a_merged_llm_can_be_of_another_precision(self, checkpoint, tmp_path):
        from transformers import AutoModelForCausalLM

        arguments = ["export-llm", str(checkpoint), "-o", str(tmp_path / "half"), "--merge-lora", "--dtype", "bf16"]
        assert main(arguments) == 0
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype="auto").dtype == torch.bfloat16

    def test_what_exists_is_not_overwritten(self, checkpoint, tmp_path, capsys):
        assert main(["export-llm", str(checkpoint), "-o", str(tmp_path)]) == 1
        assert "exists already" in capsys.readouterr().err


def test_training_that_goes_on_is_the_training_that_never_stopped(world, tmp_path):
    """Dropout on: the updates after a restart draw what they would have drawn."""
    more = ["--lora-rank", 4, "--lora-dropout", 0.2, "--speech-encoder", world.encoder, *SMALL]
    train_here(finetune_arguments(world, tmp_path / "whole", *more, updates=5))
    train_here(finetune_arguments(world, tmp_path / "parts", *more, updates=2))
    train_here(finetune_arguments(world, tmp_path / "parts", *more, updates=5))
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["model"] for name in ("whole", "parts")
    )
    assert any("lora" in name for name in whole)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_hypothesis_does_not_depend_on_its_batch(built):
    together = generate(built, batch(built, "test_fr", range(4)), beam=2)
    for i in range(4):
        assert answers(generate(built, batch(built, "test_fr", [i]), beam=2)) == answers(together[i : i + 1])


def test_the_options_of_generation_stay_as_they_are(built):
    assert built.task.build_generator([built.model], Namespace(**OPTIONS)).settings.beam == OPTIONS["beam"]
