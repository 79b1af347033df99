"""The ablations: every arm is made of options that exist, arms cost what they are said to, the table is right."""

from __future__ import annotations

import subprocess
import sys

import pytest
from commands import ROOT
from models import build_stage1, build_stage2, stage1_arguments

sys.path.insert(0, str(ROOT / "examples"))
sys.path.insert(0, str(ROOT / "examples" / "ablations"))

from arms import ARMS, GROUPS
from costs import costs_of_updates
from summary import draw, half_width, summary


def test_arms_of_one_name_are_one_arm():
    assert all(ARMS[arm.name] == arm for group in GROUPS.values() for arm in group)


@pytest.mark.parametrize("arm", ARMS.values(), ids=lambda arm: arm.name)
def test_every_arm_builds_its_stage1(arm, world):
    if arm.stage1 is None:
        return
    options = (*arm.shape, *arm.stage1)
    built = build_stage1(world, *(str(world.llm) if option == "{llm}" else str(option) for option in options))
    assert built.criterion.weights


def test_every_arms_stage2_has_options_that_exist(world):
    words = {str(word) for arm in ARMS.values() for word in (*arm.stage2, *arm.shape)}
    options = {word for word in words if word.startswith("--")}
    cfg = build_stage2(world).cfg
    known = {*cfg.model, *cfg.task}
    assert options
    assert all(option.removeprefix("--").replace("-", "_") in known for option in options)


def test_a_larger_training_costs_more(world):
    def words(queries):
        more = ["--user-dir", "sparqle_fairseq", "--batch-size", 4, "--objective", "ctc", "--queries", queries]
        return ["fairseq-train", *stage1_arguments(world), *more]

    found = costs_of_updates({"few": words(8), "many": words(600)})
    assert found["many"] > 1.5 * found["few"] > 0


def test_the_interval_is_students():
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5)
    assert half_width([5.0]) == float("inf")


def test_the_table_has_every_arm_and_seed(tmp_path):
    def run(score):
        return {"fr": score, "de": score - 10, "wer": 50 - score, "stage1_updates": 30, "stage2_updates": 70}

    scores = {"none": [run(20), run(22)], "llm-ctc": [run(40), run(41)]}
    table = summary(scores, {"none": (0.0, 0.1), "llm-ctc": (0.05, 0.1)}, 60)
    line = next(line for line in table.splitlines() if line.startswith("llm-ctc"))
    assert "40.5 ±6.4 (40.0 41.0)" in line
    assert line.endswith("50/100")
    draw(scores, tmp_path / "table.png")
    assert (tmp_path / "table.png").read_bytes()[1:4] == b"PNG"


def test_an_unknown_arm_is_refused():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "ablations" / "run.py", "--group", "losses", "--arms", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no such arm; losses has sparqle, stm+stg" in done.stderr
