"""What the recipes share: commands run side by side, progress is read from logs, scores become a table and a report."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from commands import ROOT

sys.path.insert(0, str(ROOT / "examples"))

from curves import draw_curves, read_curves
from pipeline import Command, CommandFailed, progress, run_together
from recipe import Recipe
from results import read_scores, report, samples, table

LOG = """2026-01-01 | INFO | train_inner | epoch 001:  50 / 188 loss=8.933, stc_loss=2.785, ups=2.79, num_updates=50, lr=0.001
2026-01-01 | INFO | valid_stage2 | epoch 004 | valid on 'valid_stage2' subset | loss 0.763 | wer 41.43 | bleu 36.8 | num_updates 100
2026-01-01 | INFO | train_inner | epoch 001:  100 / 188 loss=7.5, stc_loss=2.7, ups=2.79, num_updates=100, lr=0.001
"""  # noqa: E501


def python(name, folder, code):
    return Command(name, [sys.executable, "-c", code], folder / f"{name}.log")


def test_commands_run_side_by_side(tmp_path):
    wait = "import pathlib, sys, time\npathlib.Path({own!r}).touch()\nend = time.time() + 20\n"
    wait += "while not pathlib.Path({other!r}).exists():\n    time.sleep(0.05)\n    assert time.time() < end\n"
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    run_together(
        [
            python("a", tmp_path, wait.format(own=first, other=second)),
            python("b", tmp_path, wait.format(own=second, other=first)),
        ],
        time.monotonic(),
    )


def test_a_failure_shows_the_end_of_its_log_and_stops_the_rest(tmp_path):
    started = time.monotonic()
    with pytest.raises(CommandFailed, match=r"bad failed \(3\)[\s\S]*what went wrong"):
        run_together(
            [
                python("long", tmp_path, "import time; time.sleep(60)"),
                python("bad", tmp_path, "print('what went wrong'); raise SystemExit(3)"),
            ],
            started,
        )
    assert time.monotonic() - started < 30


def test_progress_is_the_last_update(tmp_path):
    log = tmp_path / "x.log"
    log.write_text(LOG)
    assert progress(log) == "update 100: loss 7.5 stc_loss 2.7"
    log.write_text("")
    assert progress(log) == "starting"


def test_progress_before_the_first_update_is_the_last_line_that_is_no_warning(tmp_path):
    log = tmp_path / "log"
    told = "2026-01-01 10:00:00 | INFO | fairseq.trainer | begin training epoch 1\n"
    log.write_text(
        told + "trainer.py:7: FutureWarning: `autocast(args)` is deprecated.\n  with autocast(enabled=True):\n"
    )
    assert progress(log) == told.strip()


def test_curves_are_read_and_drawn(tmp_path):
    log = tmp_path / "x.log"
    log.write_text(LOG)
    training, validation = read_curves(log)
    assert training["loss"] == [(50, 8.933), (100, 7.5)]
    assert validation["bleu"] == [(100, 36.8)]
    draw_curves({"one": ({"loss": training["loss"], "none": []}, "nats")}, tmp_path / "c" / "x.png")
    assert (tmp_path / "c" / "x.png").read_bytes()[1:4] == b"PNG"


def write_generation(path, pairs):
    lines = [f"T-{i}\t{reference}\nD-{i}\t-0.1\t{hypothesis}\n" for i, (reference, hypothesis) in enumerate(pairs)]
    path.write_text("".join(lines))
    return path


def test_scores_become_a_table_a_report_and_samples(tmp_path):
    right = [
        ("un chat dort ici maintenant", "un chat dort ici maintenant"),
        ("le chien court très vite", "le chien court très vite"),
    ]
    wrong = [(reference, "rien du tout ne va") for reference, _ in right]
    files = {
        "test_asr": write_generation(tmp_path / "a", [("a b c d", "a b x d")]),
        "test_fr": write_generation(tmp_path / "f", right),
        "test_fr_shuffled": write_generation(tmp_path / "s", wrong),
    }
    results = read_scores(files)
    content = report(results, ("fr",), 12.34)
    assert content["transcription"] == {"wer": 25.0, "shuffled_wer": None}
    assert content["translation"]["fr"]["bleu"] == pytest.approx(100)
    assert content["translation"]["fr"]["shuffled_bleu"] < 20
    assert content["translation"]["fr"]["n"] == 2
    assert content["seconds"] == 12.3
    lines = table(results).splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["test_asr", "wer", "25.0"], ["test_fr", "bleu", "100.0"], ["test_fr", "chrf", "100.0"],
    ]  # fmt: skip
    assert samples({"test_fr": files["test_fr"]}, 1).count("un chat dort ici maintenant") == 2


def test_the_recipes_commands_are_those_of_a_user(tmp_path):
    places = dict.fromkeys(("out", "audio", "features", "encoder", "llm", "tokenizer"), tmp_path)
    recipe = Recipe(**places, stage1_updates=10, stage2_updates=20, seed=3)
    for command, task in ((recipe.stage1(), "sparqle_pretrain"), (recipe.stage2(), "sparqle_finetune")):
        assert "fairseq-train" in command.line
        assert f"--task {task}" in command.line
        assert "--user-dir sparqle_fairseq" in command.line
        assert "--seed 3" in command.line
    assert "--pretrained-adapter" not in recipe.stage2(pretrained=False).line
    assert "fairseq-generate" in recipe.generate("test_fr").line


def test_curves_are_drawn_in_silence_where_fairseq_has_asked_for_every_detail(tmp_path):
    script = (
        "import logging, pathlib, curves; logging.basicConfig(level=logging.DEBUG); "
        f"curves.draw_curves({{'one': ({{'loss': [(1, 2.0)]}}, 'nats')}}, pathlib.Path({str(tmp_path / 'x.png')!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT / "examples"
    )
    assert (tmp_path / "x.png").stat().st_size
    assert done.stderr == ""
