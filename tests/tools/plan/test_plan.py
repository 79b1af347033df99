"""`sparqle plan`: counting without bytes is right, parts add up, what does not fit is said, and it is what happens."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import Any

import pytest
import torch
from commands import ROOT
from tiny_models import build_stage1
from torch._subclasses.fake_tensor import FakeTensorMode

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.manifest import write_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.plan.filling import Filling
from sparqle_fairseq.tools.plan.parts import LLMSize, build_encoder, llm_config
from sparqle_fairseq.tools.plan.plan import RATE, Plan, Run, Stage, _measured, _stage1, plan
from sparqle_fairseq.tools.plan.report import misfits, size
from sparqle_fairseq.tools.plan.rows import rows_of
from sparqle_fairseq.tools.plan.tracing import Peak, peak_of, without_bytes

SMALL = [
    "--encoder",
    "base",
    "--arch",
    "tiny",
    "--hours",
    "10",
    "--mean-seconds",
    "5",
    "--from-store",
    "--max-tokens",
    "640000",
]
LLM = ["--llm-params", "3e5", "--llm-width", "64", "--llm-layers", "2", "--vocab", "1000"]


def test_the_peak_is_what_is_alive_at_once_and_not_what_was_made():
    mebi = 1 << 20

    def run() -> None:
        kept = torch.zeros(mebi // 4)
        for _ in range(3):
            passing = torch.zeros(2 * mebi // 4)
            del passing
        torch.zeros(mebi // 4)
        assert kept is not None

    with without_bytes():
        assert peak_of(run).total == 3 * mebi


def test_weights_that_were_there_are_not_counted_again():
    """A view of them is no new memory: every linear layer makes one."""
    with without_bytes():
        weight = torch.zeros(1000, 1000)
        assert peak_of(lambda: weight.t()[:1] * 2).total == 4 * 1000


def test_a_trace_neither_uses_nor_leaves_what_torch_remembers_of_operations():
    with FakeTensorMode():
        torch.zeros(3) + 1
    with without_bytes():
        assert not FakeTensorMode.cache
        torch.zeros(3) + 1
        assert FakeTensorMode.cache
    assert not FakeTensorMode.cache


def test_a_copy_of_a_module_is_made_without_asking_for_bytes(recwarn):
    with without_bytes():
        layer = torch.nn.Linear(3, 2)
        layer.tied, layer.weight.requires_grad = layer.weight, False
        other = copy.deepcopy(layer)
        assert isinstance(other.weight, torch.nn.Parameter)
        assert other.weight is not layer.weight
        assert other.tied is other.weight
        assert not other.weight.requires_grad
        assert other.bias.requires_grad
        assert other.weight.shape == (2, 3)
    assert not [each for each in recwarn if "data pointer" in str(each.message)]


def test_what_the_backward_pass_keeps_counts_and_logits_are_told_apart():
    def run() -> None:
        x = torch.zeros(4, 256, requires_grad=True)
        hidden = x.exp().exp()  # each exp keeps its result
        assert hidden is not None
        torch.zeros(4, 1000)

    with without_bytes():
        found = peak_of(run, vocabulary=1000)
    assert found == Peak(4 * (3 * 4 * 256 + 4 * 1000), 4 * 4 * 1000)


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """The plan of a tiny run of both stages, as the command prints it."""
    words = ["plan", *SMALL, *LLM, "--objective", "stg", "--json", "--steps-per-second", "2"]
    words += ["--max-tokens-stage2", "320000", "--update-freq", "2", "--gpus", "4"]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert main(words) == 0
    return {**json.loads(out.getvalue()), "stderr": err.getvalue()}


def test_steps_and_files_follow_from_the_numbers(small):
    first, second = small["stages"]
    assert (first["batch"], second["batch"]) == (8, 4)
    assert first["steps_an_epoch"] == -(-7200 // (8 * 4 * 2))  # 10 hours are 7200 utterances of 5 s
    assert second["steps"] == 10 * 7200 // (4 * 4 * 2)
    assert second["hours"] == second["steps"] / 2 / 3600
    assert small["feature_store"] == 10 * 3600 * 50 * 768 * 2
    for stage in (first, second):
        count = stage["trained_parameters"]
        assert stage["gradients"] == 2 * count
        assert stage["optimizer"] == 16 * count  # fp32 weights and gradients, Adam's two states
        assert stage["checkpoint"] - stage["checkpoint_without_optimizer"] == 12 * count
        parts = ("frozen", "trained", "gradients", "optimizer", "exchange", "activations")
        assert stage["memory"] == sum(stage[part] for part in parts)
    assert 0 < first["logits"] < first["activations"]


def test_a_stage_that_does_not_fit_is_one_sentence_that_names_what_does():
    run, module, nothing = Run("base", None), torch.nn.Linear(10, 10), torch.nn.Module()
    stages = tuple(_measured(run, i, 8, module, 0, nothing, Peak(10**9 * (3 - i)), Peak()) for i in (0, 1))
    fits = Filling(2, 400_000, 1250)
    both = list(misfits(Plan(0, stages, (fits, fits)), 1.5))
    assert [sentence.split(";")[0] for sentence in both] == [
        "stage 1 wants 3.00 GB and a GPU has 1.5 GB", "stage 2 wants 2.00 GB and a GPU has 1.5 GB",
    ]  # fmt: skip
    assert "; lower --max-tokens to 400000, or divide the model" in both[0]
    assert "; lower --max-tokens-stage2 to 400000, or divide the model" in both[1]
    (first,) = misfits(Plan(0, stages, (fits, fits)), 2.5)
    assert first == both[0].replace("1.5 GB", "2.5 GB")


@pytest.mark.parametrize(
    "llm", [None, pytest.param(LLMSize(3e5, 64, 2, 1000), marks=pytest.mark.long, id="both stages")]
)
def test_the_batch_that_fills_a_gpu_fits_by_the_plan_and_one_utterance_more_does_not(llm):
    """Each planned by itself, as a user would after being told."""
    run = Run(
        "base", llm, "stg", arch="tiny", qformer=(("layers", 1),), mean_seconds=5, gpus=4,
        max_tokens=(640000, 320000), from_store=True,
    )  # fmt: skip
    fillings = plan(run, 0.15e9).fillings
    tokens = [filling.max_tokens for filling in fillings]
    single = replace(run, batch_multiple=1)
    at_most = plan(replace(single, max_tokens=tuple(tokens))).stages
    more = plan(replace(single, max_tokens=tuple(each + 5 * RATE for each in tokens))).stages
    for filling, fits, exceeds in zip(fillings, at_most, more, strict=True):
        assert filling.frames == filling.max_tokens // 320
        assert filling.batch == (fits.batch // 8 * 8 or fits.batch)
        assert fits.memory <= 0.15e9 < exceeds.memory
        assert exceeds.batch == fits.batch + 1 > 2


def test_a_second_look_at_a_stage_finds_what_the_first_did():
    """Gradients of the look before would be there already, and not be counted."""
    run = Run("base", None, "stg", arch="tiny", qformer=(("layers", 1),), from_store=True, precision="fp32")
    with without_bytes():
        look = _stage1(run, build_encoder("base").eval(), None)
        assert look(1) == look(1)


def test_where_not_even_one_utterance_fits_it_is_said(capsys):
    assert main(["plan", *SMALL, "--objective", "stg", "--gpu-memory", "0.01"]) == 0
    said = capsys.readouterr()
    assert "nothing fits" in said.out
    assert "a GPU has 0.01 GB, too little even for one utterance of mean length; train with" in said.err
    assert said.err.count("\n") == 1
    assert main(["plan", *SMALL, "--gpu-memory", "0"]) == 1
    assert capsys.readouterr().err == "error: --gpu-memory 0 must be above 0\n"


@pytest.mark.parametrize("objective", ["sparqle", "stc+0.4*adversarial", "stg-outputs+ctc", "llm-ctc"])
def test_trained_parameters_are_those_of_the_model_that_is_built(world, objective):
    llm = str(world.llm) if "llm-ctc" in objective else None
    more = ["--objective", objective, "--max-update", "9", "--layers", "1", *(["--llm", llm] if llm else [])]
    built = build_stage1(world, *more)
    sizes = {"hidden_size": 32, "layers": 1, "heads": 4, "ffn_size": 64, "queries": 6}
    run = Run(
        "base", llm, objective, arch="tiny", qformer=tuple(sizes.items()), precision="fp32",
        max_tokens=(320000, 320000), mean_seconds=5, from_store=True,
        text_vocabulary=built.model.tokenizer.vocab_size - 1,
    )  # fmt: skip
    stage = plan(run).stages[0]
    own = sum(p.numel() for p in built.model.adapter.parameters() if p.requires_grad)
    # The world's encoder is 32 wide and HuBERT base 768: keys, values and the norm before them.
    wider = 768 - built.model.speech_encoder.width
    config = built.model.adapter.qformer.config
    readers = len([i for i in range(config.layers) if i % config.cross_attention_freq == 0])
    assert stage.trained_parameters == own + wider * (2 * config.hidden_size * readers + 2)
    # Of the LLM its embeddings alone are there, in fp32.
    assert stage.frozen == (4 * built.model.adapter.llm_space._table.module.weight.numel() if llm else 0)


def test_an_objective_that_needs_less_is_planned_with_less(capsys):
    memory = {}
    for objective in ("sparqle", "stg", "ctc", "llm-ctc"):
        llm = LLMSize(3e5, 64, 2, 1000) if objective == "llm-ctc" else None  # without one there is no stage 2 to plan
        run = Run(
            "base", llm, objective, arch="tiny", qformer=(("layers", 1),), max_tokens=(640000, 640000),
            mean_seconds=5, from_store=True,
        )  # fmt: skip
        memory[objective] = plan(run).stages[0].memory
    assert memory["llm-ctc"] < memory["ctc"] < memory["sparqle"] > memory["stg"]
    assert main(["plan", *SMALL, "--objective", "llm-ctc"]) == 1
    assert "name the LLM with --llm" in capsys.readouterr().err
    assert main(["plan", *SMALL, "--objective", "stx"]) == 1
    assert "'stx' is unknown" in capsys.readouterr().err


def test_half_precision_flavours_take_what_fairseq_takes():
    run = Run("base", None, precision="fp32", update_freq=1, gpus=1)
    module, nothing = torch.nn.Linear(10, 10, bias=False), torch.nn.Module()

    def stage(**changes: Any) -> Stage:
        return _measured(replace(run, **changes), 0, 8, module, 0, nothing, Peak(5000), Peak())

    assert (stage().optimizer, stage().gradients, stage().exchange) == (800, 400, 0)
    assert stage(precision="bf16").optimizer == 1600
    assert stage(precision="memory-efficient-bf16").optimizer == 800
    assert stage(gpus=2).exchange == 400


def test_an_llm_by_numbers_has_that_many_parameters():
    config = llm_config(LLMSize(8e9, 4096, 32, 128256))
    assert config.intermediate_size == pytest.approx(14336, rel=0.01)  # Llama 3.1 8B has 14336
    with pytest.raises(SparqleError, match="too few"):
        llm_config(LLMSize(1e8, 4096, 32, 128256))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--encoder", "huge"], "--encoder huge is neither base, large, xlarge"),
        (["--mean-seconds", "0"], "--mean-seconds 0 must be above 0"),
        (["--max-tokens", "16000"], "less than one utterance"),
        (["--llm", "x", "--llm-params", "1e9"], "give one of them"),
    ],
)
def test_impossible_runs_are_one_sentence(options, found, capsys):
    assert main(["plan", *SMALL, *options]) == 1
    assert found in capsys.readouterr().err


def test_a_manifest_says_how_much_there_is_and_what_it_takes(tmp_path, capsys, monkeypatch):
    path = tmp_path / "train.tsv"
    rows = ({"id": i, "audio": f"{i}.wav", "n_frames": 5 * RATE, "src_text": "a"} for i in range(7200))
    write_manifest(path, rows, ("id", "audio", "n_frames", "src_text"))
    asked = []

    def quick(run: Run, _: float | None) -> Plan:
        asked.append(run)
        stage = _measured(run, 0, run.batch(0), torch.nn.Linear(10, 10), 0, torch.nn.Module(), Peak(5000), Peak())
        return Plan(0, (stage,))

    monkeypatch.setattr("sparqle_fairseq.tools.plan.plan.plan", quick)
    assert main(["plan", *SMALL]) == 0
    without = [word for word in SMALL if word not in ("--hours", "10", "--mean-seconds", "5")]
    words = ["plan", *without, "--manifest", str(path)]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["manifest"]
    assert asked[1] == asked[0]  # 10 hours are 7200 utterances of 5 s
    assert told == {"rows": 7200, "hours": 10, "memory": round(rows_of([str(path)]).memory(8))}
    assert main([*words, "--gpus", "4"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("manifest of 7,200 rows, 10.0 hours: ")
    assert said.endswith(
        f"in a process, which its data-loader workers share; {size(4 * told['memory'])} in 4 processes"
    )


def test_what_a_manifest_cannot_say_is_one_sentence(tmp_path, capsys):
    missing, broken = tmp_path / "none.tsv", tmp_path / "broken.tsv"
    broken.write_text("id\taudio\tn_frames\nu\tx.wav\tlong\n", encoding="utf-8")
    for words, sentence in (
        (["--manifest", str(missing)], f"error: {missing}: there is no such manifest; check the path"),
        (["--manifest", str(broken)], f"error: {broken}:2 (utterance u): found 'long' in n_frames; write"),
        (
            ["--manifest", str(broken), "--hours", "3"],
            "error: --manifest says how long utterances are, and --hours too",
        ),
        ([], "error: how much audio there is was not said; give --manifest, or --hours"),
    ):
        assert main(["plan", *words]) == 1
        said = capsys.readouterr().err
        assert said.startswith(sentence)
        assert said.count("\n") == 1


def test_nothing_is_said_where_all_fits():
    assert not list(misfits(Plan(0, ()), 80))


@pytest.mark.long
def test_planned_memory_is_within_15_percent_of_what_training_takes():
    done = subprocess.run(
        [sys.executable, "benchmarks/plan_memory.py", "--json"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    rows = json.loads(done.stdout)
    assert len(rows) == 8
    for row in rows:
        assert 0.85 < row["ratio"] < 1.15, row
