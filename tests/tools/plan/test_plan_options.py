"""`sparqle plan` counts options of the models that training has, and refuses in one sentence what it cannot count."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.plan.options import model_options
from sparqle_fairseq.tools.plan.parts import LLMSize, build_encoder, llm_config
from sparqle_fairseq.tools.plan.plan import Run, Stage, _measured, _stage1, _stage2, plan
from sparqle_fairseq.tools.plan.texts import counted_tokens, text_vocabulary
from sparqle_fairseq.tools.plan.tracing import Peak, without_bytes

ENOUGH = ["plan", "--encoder", "base", "--arch", "tiny", "--hours", "10", "--from-store"]
LLM = LLMSize(6e5, 64, 2, 1000)


@cache
def stage(number: int, options: tuple[tuple[str, Any], ...] = (), **changes: Any) -> Stage:
    """One stage of a tiny run with so many options of the models, looked at with 4 utterances."""
    run = Run(
        "base", LLM, changes.pop("objective", "stg"), arch="tiny", qformer=(("layers", 1), *options), mean_seconds=8,
        from_store=True, **{"precision": "fp32", "llm_dtype": "fp32", "text_vocabulary": 1000, **changes},
    )  # fmt: skip
    look = _stage2 if number else _stage1
    with without_bytes():
        return look(run, build_encoder("base").eval(), llm_config(LLM))(4)


@pytest.mark.parametrize(
    ("number", "options", "part", "least", "most"),
    [
        (0, {"layers": 2}, "trained", 1.02, 2),
        (0, {"query_window_seconds": 0.5, "queries_per_window": 8}, "activations", 1.2, 10),
        (0, {"speech_downsample": "stack", "speech_stride": 4}, "trained", 1.1, 3),
        (1, {"llm_gradient_checkpointing": True}, "activations", 0.5, 0.97),
        (1, {"freeze_qformer": True}, "gradients", 0, 0.1),
        (1, {"freeze_qformer": True}, "trained", 1, 1),
        (1, {"projector": "mlp"}, "trained", 1.001, 1.1),
        (1, {"compress_queries": True}, "frozen", 1.1, 1.5),
    ],
)
def test_an_option_of_the_models_is_planned(number, options, part, least, most):
    with_option, without = (getattr(stage(number, given), part) for given in (tuple(options.items()), ()))
    assert least * without <= with_option <= most * without


@pytest.mark.parametrize(
    ("precision", "llm_dtype", "size"), [pytest.param("fp32", "bf16", 4, marks=pytest.mark.long), ("bf16", "fp32", 2)]
)
def test_lora_learns_in_the_precision_of_the_trainer_and_not_of_the_llm(precision, llm_dtype, size):
    lora = (("lora_rank", 16), ("lora_target", "all-linear"))
    inner = llm_config(LLM).intermediate_size
    found, usual = (stage(1, each, precision=precision, llm_dtype=llm_dtype) for each in (lora, ()))
    # In 2 layers: q, k, v and o from 64 to 64 (one head for all), gate and up from 64 to `inner`, and down back.
    count = 2 * 16 * (4 * (64 + 64) + 3 * (64 + inner))
    assert found.trained_parameters - usual.trained_parameters == count
    assert found.gradients - usual.gradients == count * size
    assert found.activations > usual.activations + count * size  # what the layers keep for their gradients


@pytest.mark.parametrize(
    ("objective", "candidates", "times"), [("distill", 4, 1.05), ("minimum-risk", 2, 1.2), ("preference", 4, 2)]
)
def test_an_objective_of_stage_2_that_needs_more_is_planned_with_more(objective, candidates, times):
    usual = stage(1)
    found = stage(1, (("candidates", candidates),), objective_stage2=objective)
    assert found.activations > times * usual.activations
    # The adapter that training began with is kept beside the one that learns.
    assert found.frozen - usual.frozen == (found.trained if objective == "preference" else 0)


def test_texts_are_as_long_as_was_said():
    for number in (0, 1):
        usual, longer = (stage(number, tokens_a_second=(each,) * 3) for each in (3.5, 35))
        assert longer.activations > 2 * usual.activations


def test_a_layer_of_the_encoder_is_planned():
    """A learned sum has a weight for each; a lower layer has none above it."""
    found = {}
    for layer in ("last", "weighted", "3"):
        run = Run(
            "base", None, "ctc", arch="tiny", mean_seconds=8, max_tokens=(8 * 16000,) * 2, text_vocabulary=100,
            precision="fp32", qformer=(("layers", 1), ("encoder_layer", layer)),
        )  # fmt: skip
        found[layer] = plan(run).stages[0]
    assert found["weighted"].trained_parameters == found["last"].trained_parameters + 12
    assert found["last"].frozen - found["3"].frozen == pytest.approx(9 * 7.09e6 * 4, rel=0.01)


def test_an_optimizer_is_planned_with_what_it_keeps():
    adam, sgd, nag = (stage(1, optimizer=each, precision="bf16") for each in ("adam", "sgd", "nag"))
    count = adam.trained_parameters
    assert (adam.optimizer, nag.optimizer, sgd.optimizer) == (16 * count, 12 * count, 8 * count)
    assert adam.checkpoint - sgd.checkpoint == 8 * count


def test_gradients_that_wait_for_the_next_batch_are_counted_once():
    """They are there when its forward pass begins, and its own are added to them."""
    alone, two, many = (stage(1, update_freq=each) for each in (1, 2, 8))
    assert alone.memory < two.memory == many.memory <= alone.memory + alone.gradients
    # While the encoder hears, no gradient is made.
    module, nothing, peaks = torch.nn.Linear(10, 10, bias=False), torch.nn.Module(), (Peak(5000), Peak(9000))
    runs = [Run("base", None, precision="fp32", update_freq=each) for each in (1, 2)]
    heard = [_measured(run, 0, 8, module, 0, nothing, *peaks) for run in runs]
    assert heard[1].memory == heard[0].memory + 400


def test_options_are_read_as_training_reads_them():
    words = ["--query-window-seconds", "0.5", "--queries-per-window=4", "--llm-gradient-checkpointing"]
    assert model_options([*words, "--lora-target", "q_proj,v_proj", "--candidates", "6"]) == {
        "query_window_seconds": 0.5, "queries_per_window": 4, "llm_gradient_checkpointing": True,
        "lora_target": "q_proj,v_proj", "candidates": 6,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--gpu-memmory", "8"],
            "neither the plan nor a model has an option --gpu-memmory; did you mean --gpu-memory?",
        ),
        (["--lora-rang", "8"], "neither the plan nor a model has an option --lora-rang; did you mean --lora-rank?"),
        (["stray"], "'stray' belongs to no option; leave it out"),
        (["--layers"], "--layers needs a value; give one behind it"),
        (["--layers", "--dropout", "0"], "--layers needs a value; give one behind it"),
        (["--layers", "x"], "--layers x is no number; give a whole number"),
        (["--projector", "x"], "--projector x is unknown; choose from linear, mlp, linear-norm, scaled"),
        (["--freeze-qformer=1"], "--freeze-qformer=1: --freeze-qformer takes no value; leave it out"),
        (
            ["--encoder-lora", "8"],
            "--encoder-lora: the plan plans no encoder that learns; leave it out, and expect more",
        ),
        (["--query-windows", "ctc"], "--query-windows: the plan cannot know where tokens end; leave it out, and give"),
        (["--lora-rank", "8"], "--lora-rank is of stage 2, which is not planned without an LLM; name one with --llm"),
        (["--objective-stage2", "distill"], "--objective-stage2 is of stage 2, which is not planned without an LLM"),
        (
            ["--encoder-layer", "weighted"],
            "--encoder-layer weighted sums all layers of an encoder, and a feature store",
        ),
        (["--hidden-size", "0"], "--hidden-size 0 must be 1 or more"),
        (["--queries", "0"], "--queries 0 must be 1 or more"),
        (["--batch-size", "0"], "--batch-size 0 must be 1 or more"),
        (["--tokens-per-second", "0"], "--tokens-per-second 0 must be above 0"),
        (["--text-vocab", "9", "--text-tokenizer", "x"], "--text-vocab says how many tokens the tokenizer has, and a"),
        (["--llm-params", "1e6", "--llm-layers", "0"], "--llm-width 4096, --llm-layers 0 and --vocab 128256 must be 1"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(words, said, capsys):
    assert main([*ENOUGH, *words]) == 1
    found = capsys.readouterr().err
    assert found.startswith(f"error: {said}")
    assert found.count("\n") == 1


def test_a_batch_too_small_names_its_own_stage():
    """Without an LLM nothing of stage 2 is asked."""
    assert Run("base", None, mean_seconds=90).batch(0) == 1
    with pytest.raises(
        SparqleError, match=r"^--max-tokens-stage2 1000000 is 62\.5 seconds, less than one utterance of"
    ):
        Run("base", LLM, mean_seconds=90)
    with pytest.raises(SparqleError, match=r"^--max-tokens 1000000 is"):
        Run("base", None, mean_seconds=90, max_tokens=(1000000, 1000000))


def test_a_batch_has_no_more_utterances_than_were_asked_for():
    run = Run("base", LLM, mean_seconds=5, batch_size=6, batch_multiple=4)
    assert (run.batch(0), run.batch(1)) == (4, 4)


def test_tokens_of_a_manifest_are_those_of_its_texts(world, tmp_path):
    path = tmp_path / "train.tsv"
    rows = [
        {"id": f"{i}", "audio": f"{i}.wav", "n_frames": 2 * 16000, "src_text": text, "tgt_text": "Rouge Bleu"}
        for i, text in enumerate(["red fox runs", "red fox runs red fox runs red"])
    ]
    write_manifest(path, rows, ("id", "audio", "n_frames", "src_text", "tgt_text"))
    transcript, read, answer = counted_tokens([read_manifest(str(path))], str(world.tokenizer), str(world.llm), None)
    assert transcript == (10 + 2 * 2) / 4  # [CLS] and [SEP] too
    assert 0 < answer != read > 0
    assert counted_tokens([read_manifest(str(path))], None, None, None) == (3.5, 3.5, 3.5)
    assert counted_tokens([read_manifest(str(path))], str(world.tokenizer), str(world.llm), 7) == (7, 7, 7)
    assert 0 < text_vocabulary(str(world.tokenizer)) < 130
