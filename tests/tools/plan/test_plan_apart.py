"""Runs the tests of the plan in a process of their own; `conftest.py` says why."""

from __future__ import annotations

import pytest
import warm
from commands import PACKAGE, ROOT, environment

CODE = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
OPTIONS = ["-q", "--tb=short", "-p", "no:cacheprovider", "--color=no"]


@pytest.mark.parametrize(
    ("file", "which"),
    [
        *((file, "not long") for file in ("test_plan.py", "test_plan_options.py", "test_plan_rows.py")),
        *(pytest.param(file, "long", marks=pytest.mark.long) for file in ("test_plan.py", "test_plan_options.py")),
    ],
)
def test_every_promise_of_the_plan(file, which):
    words = ["-c", CODE, f"tests/tools/plan/{file}", "-m", which, *OPTIONS]
    done = warm.run(words, ROOT, environment() | {"SPARQLE_PLAN_APART": "1"}, first=PACKAGE)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout or "100%" in done.stdout, done.stdout
