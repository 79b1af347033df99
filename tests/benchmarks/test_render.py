"""`make bench` runs what is a benchmark, and writes the tables between the marks of docs/performance.md."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from commands import ROOT
from render import block, draw, read_results, render
from run_all import benchmarks

from sparqle_fairseq.errors import SparqleError

PROSE = "# Title\n\nProse | with a bar.\n"


def row(**more):
    return {"case": "c", "measure": "time", "value": 0.7, "low": None, "high": None, "goal": None} | {
        "at_least": False,
        "note": "",
        **more,
    }


def result(name, *rows, growth=()):
    machine = {"cpu": "chip", "cores": 2, "threads": 1, "device": "CPU", "torch": "2", "gemm_gflops": 171.4}
    return {"name": name, "question": "How?", "against": "b", "command": "python benchmarks/x.py"} | {
        "machine": machine,
        "rows": list(rows),
        "growth": list(growth),
    }


def test_tables_stand_between_marks_and_prose_stays(tmp_path):
    document, said = tmp_path / "performance.md", []
    kept = "<!-- benchmark other -->\nkept\n<!-- end of benchmark -->\n"
    document.write_text(f"{PROSE}<!-- benchmark one -->\nold\n<!-- end of benchmark -->\nBetween.\n{kept}", "utf-8")
    for _ in range(2):
        render({name: result(name, row()) for name in ("one", "new")}, document, said.append)
        text = document.read_text(encoding="utf-8")
        assert text.startswith(PROSE)
        assert "old" not in text
        assert f"Between.\n{kept}" in text
        assert text.count("**How?** Against: b.") == text.count("| c | time | 0.700 |") == 2
        assert text.endswith("in a matrix product of fp32.\n\n<!-- end of benchmark -->\n")
    assert "other: not measured now, so its table stays as it is" in said


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"value": 0.7, "goal": 0.8}, "| 0.700 |  | ≤ 0.800 | reached |"),
        ({"value": 0.9, "goal": 0.8}, "| 0.900 |  | ≤ 0.800 | **not reached** |"),
        ({"value": 0.9, "goal": 0.85, "at_least": True}, "| 0.900 |  | ≥ 0.850 | reached |"),
        ({"value": 0.8, "goal": 0.85, "at_least": True, "note": "n"}, "| ≥ 0.850 | **not reached**; n |"),
        ({"value": 3.14159, "low": 0.01234, "high": 1234.5}, "| 3.14 | 0.0123 to 1234 |  |  |"),
        ({"case": "a|b"}, r"| a\|b | time |"),
    ],
)
def test_what_a_row_shows(given, shown):
    assert shown in block(result("x", row(**given)))


def test_growth_is_drawn(tmp_path):
    document = tmp_path / "performance.md"
    document.write_text(PROSE, encoding="utf-8")
    panel = {"over": "seconds", "unit": "CPU s", "of": "a step", "lines": {"ours": [[1, 2.0], [4, 9.0]]}}
    render({"g": result("g", row(), growth=[panel])}, document, print)
    assert (tmp_path / "performance_g.png").read_bytes().startswith(b"\x89PNG")
    assert "![a step over seconds](performance_g.png)" in document.read_text(encoding="utf-8")


def test_growth_is_marked_where_it_was_measured(tmp_path, monkeypatch):
    pyplot, figures = pytest.importorskip("matplotlib.pyplot"), []
    monkeypatch.setattr(pyplot, "close", figures.append)
    lines = {"planned": [[1000, 2.0], [20000, 9.0]], "measured": [[1000, 2.0], [4000, 3.0]]}
    draw([{"over": "rows", "unit": "MB", "of": "memory", "lines": lines}], tmp_path / "picture.png")
    (figure,) = figures
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1,000", "4,000", "20,000"]
    assert not axis.get_xticklabels(minor=True)
    monkeypatch.undo()
    pyplot.close(figure)


def test_a_file_that_is_no_result_is_named(tmp_path):
    (tmp_path / "bad.json").write_text('{"name": "bad"}', encoding="utf-8")
    with pytest.raises(SparqleError, match=r"bad\.json is no result of a benchmark"):
        read_results(tmp_path)


SCRIPT = """
from alternate import Benchmark, Result, Row, alternate, run
BENCHMARK = Benchmark(name="{name}", question="Is it?", against="nothing", minutes={minutes})
def measure(settings):
    {body}
    spread = alternate({{"a": lambda: 2, "b": lambda: 4}}, settings.rounds, clock=lambda run: run()).ratio("a", "b")
    return Result([Row.spread("case", "time", spread, goal=0.5)], gemm_gflops=1.0)
if __name__ == "__main__":
    run(BENCHMARK, measure)
"""


def test_every_benchmark_runs_for_its_time_at_most_and_failures_are_said(tmp_path):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name, minutes, body in (("good", 1, ""), ("slow", 0.005, "import time; time.sleep(60)")):
        (folder / f"{name}.py").write_text(SCRIPT.format(name=name, minutes=minutes, body=body), encoding="utf-8")
    (folder / "helper.py").write_text("raise SystemExit('not a benchmark')\n", encoding="utf-8")
    document = tmp_path / "performance.md"
    document.write_text(PROSE, encoding="utf-8")
    words = [ROOT / "benchmarks" / "run_all.py", "--folder", folder, "--out", tmp_path / "out", "--document", document]
    environment = {"PYTHONPATH": f"{ROOT / 'benchmarks'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "slow took longer than its 0.005 minutes" in done.stderr
    assert "at most 1.005 minutes" in done.stdout
    assert "| case | time | 0.500 | 0.500 to 0.500 | ≤ 0.500 | reached |" in document.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "good.json").read_text(encoding="utf-8"))["rows"][0]["value"] == 0.5
    assert not (tmp_path / "out" / "slow.json").exists()


def test_the_benchmarks_of_the_project_have_names_of_their_own():
    names = [name for name, _, _ in benchmarks(ROOT / "benchmarks")]
    assert len(names) == len(set(names))
