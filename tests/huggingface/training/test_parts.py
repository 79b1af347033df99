"""The parts of training that a person may use alone, and the commands of the README."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface.training.optimizer import UncorrectedEpsilonAdamW

EXAMPLES = Path(__file__).parents[3] / "examples" / "huggingface"


def test_adam_adds_epsilon_before_the_correction():
    """By hand, after the last formula of section 2 of Kingma & Ba, with an epsilon that matters."""
    rate, betas, epsilon, decay = 0.1, (0.9, 0.98), 0.5, 0.2
    gradients = [np.array([0.3, -2.0, 1e-4]), np.array([-0.1, 0.5, 0.0]), np.array([0.2, 0.2, -1e-3])]
    expected, m, v = np.array([1.0, -1.0, 0.5]), np.zeros(3), np.zeros(3)
    for step, gradient in enumerate(gradients, 1):
        m, v = betas[0] * m + (1 - betas[0]) * gradient, betas[1] * v + (1 - betas[1]) * gradient**2
        size = rate * np.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
        expected = expected - decay * rate * expected - size * m / (np.sqrt(v) + epsilon)

    weight = torch.nn.Parameter(torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64))
    options = {"lr": rate, "betas": betas, "eps": epsilon, "weight_decay": decay}
    optimizer = UncorrectedEpsilonAdamW([weight], **options)
    for number, gradient in enumerate(gradients):
        if number == 2:  # resumed: what is stored in a group must not become the epsilon
            state, optimizer = optimizer.state_dict(), UncorrectedEpsilonAdamW([weight], **options)
            optimizer.load_state_dict(state)
        weight.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12)


def test_the_collators_batches_go_to_the_usual_trainer(hub_world, tmp_path):
    from runs import options
    from transformers import Trainer, TrainingArguments

    from sparqle_fairseq.huggingface.training import PromptCollator, build_stage, parse_run

    stage = build_stage(parse_run(options(hub_world, tmp_path / "none", 2)))
    rows = [stage.train_set[i] for i in range(4)]
    collate = PromptCollator(stage.processor.audio_token_id, lambda source: stage.processor.places(len(source)))
    batch = collate(rows)
    answers = [row["answer"] for row in rows]
    for row, labels, ids in zip(rows, batch["labels"], batch["input_ids"], strict=True):
        assert labels[labels != -100].tolist() == row["answer"]
        assert ids[labels != -100].tolist() == row["answer"]
        assert int((ids == stage.processor.audio_token_id).sum()) == 8
    mine = stage.loss(stage.model, {**stage.collate(rows), "active": True})
    with torch.no_grad():
        usual = stage.model(**batch).loss
    assert float(usual) == pytest.approx(float(mine.loss) / sum(map(len, answers)), abs=1e-5)
    arguments = TrainingArguments(
        str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=4, use_cpu=True, report_to="none",
        remove_unused_columns=False, disable_tqdm=True, logging_steps=1, learning_rate=1e-2,
    )  # fmt: skip
    trainer = Trainer(stage.model, arguments, data_collator=collate, train_dataset=rows)
    before = stage.model.adapter.projector.weight.clone()
    trainer.train()
    assert not torch.equal(before, stage.model.adapter.projector.weight)


@pytest.mark.long
def test_a_checkpoint_is_given_the_converted_encoder_and_no_other(world, hub_world, tmp_path, monkeypatch):
    from runs import fairseq_run, trainer_run

    from sparqle_fairseq.models.stage2.start import read_adapter
    from sparqle_fairseq.tools.exchange.hubert import convert_hubert

    monkeypatch.syspath_prepend(str(EXAMPLES))
    from adopt import adopt

    fairseq_run(world, tmp_path / "first", 1, updates=1)
    checkpoint, output = tmp_path / "first" / "checkpoint_last.pt", tmp_path / "adopted.pt"
    with pytest.raises(SparqleError, match="gives other features"):
        adopt(checkpoint, str(hub_world.encoder), output)
    assert not output.exists()
    convert_hubert(str(world.encoder), str(tmp_path / "converted"))
    adopt(checkpoint, str(tmp_path / "converted"), output)
    before, after = read_adapter(str(checkpoint)), read_adapter(str(output))
    assert all(torch.equal(value, after["model"][name]) for name, value in before["model"].items() if "." in name)
    shape = dict.fromkeys(["hidden_size", "layers", "heads", "ffn_size", "queries", "cross_attention_freq"])
    here = SimpleNamespace(**{**vars(hub_world), "encoder": None})
    trainer = trainer_run(here, tmp_path / "second", 2, **shape, pretrained_adapter=output, max_steps=1)
    assert trainer.model.config.speech_encoder == str(tmp_path / "converted")


def commands():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^    ((?:python examples/huggingface/|sparqle ).*)$", text, re.MULTILINE)
    return [shlex.split(line) for line in found]


def test_the_readmes_options_are_those_of_the_scripts(monkeypatch):
    from sparqle_fairseq.huggingface.training import parse_run

    monkeypatch.syspath_prepend(str(EXAMPLES))
    import from_datasets

    seen = []
    monkeypatch.setattr(from_datasets, "open_dataset", lambda *words: seen.append(words) or [])
    monkeypatch.setattr(from_datasets, "write_from_dataset", mock.Mock(return_value=0))
    trained = 0
    for _, script, *words in [words for words in commands() if words[0] == "python"]:
        if script.endswith("train.py"):
            assert parse_run([*words, "--bf16", "false"]).data.data
            trained += 1
        elif script.endswith("from_datasets.py"):
            from_datasets.main(words)
    assert trained == 4
    assert seen == [("own/dataset", None, "train", "audio")]


@pytest.mark.long
def test_the_readmes_commands_for_the_demo_run(world, tmp_path, monkeypatch):
    from runs import fairseq_run

    from sparqle_fairseq.cli.main import main

    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    demo = tmp_path / "build" / "demo"
    (demo / "hubert").mkdir(parents=True)
    shutil.copy(world.encoder, demo / "hubert" / "checkpoint_last.pt")
    shutil.copytree(world.llm, demo / "llm")
    shutil.copytree(world.data / "audio", demo / "manifests" / "audio")
    for name, theirs in {"train2": "train_stage2", "dev2": "valid_stage2"}.items():
        shutil.copy(world.data / f"{name}.tsv", demo / "manifests" / f"{theirs}.tsv")
    here = SimpleNamespace(**{**vars(world), "encoder": demo / "hubert" / "checkpoint_last.pt"})
    fairseq_run(
        here, demo / "stage1", 1, "--objective", "llm-ctc", "--llm", world.llm, "--projector", "scaled", updates=1
    )
    done = []
    for words in commands():
        if not any("build/demo" in word or "demo_stage2" in word for word in words):
            continue
        if words[0] == "sparqle":
            more = ["--cpu"] if "extract-features" in words else []
            assert main([*words[1:], *more]) == 0
        else:
            script, rest = Path(words[1]), list(words[2:])
            if script.stem == "train":
                rest[0] = str(EXAMPLES.parents[1] / rest[0])
                rest += ["--max_steps", "2", "--eval_steps", "2", "--eval_max_new_tokens", "4", "--warmup_steps", "1"]
            importlib.import_module(script.stem).main(rest)
        done.append(words[1])
    assert len(done) == 4
    from transformers import AutoModelForMultimodalLM

    AutoModelForMultimodalLM.from_pretrained("build/demo/trainer")
