"""`--user-dir` and an import of the plugin in one process: in any order, by any path, any number of times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import pretrain_arguments, script

import sparqle_fairseq

PACKAGE = Path(sparqle_fairseq.__file__).parent

SCRIPT = """
import json, sys
exec({first!r})
from fairseq import options
from fairseq_cli import train

def task(user_dir):
    words = ["--user-dir", user_dir, "data", "--task", "sparqle_pretrain", "--arch", "sparqle_qformer_tiny"]
    sys.argv = ["fairseq-train", *words, "--criterion", "sparqle_pretrain"]
    return options.parse_args_and_arch(options.get_training_parser()).task

for user_dir in {user_dirs!r}:
    assert [task(user_dir), task(user_dir)] == ["sparqle_pretrain"] * 2
import sparqle_fairseq
sparqle_fairseq.register()
sparqle_fairseq.register()
assert task({user_dirs!r}[0]) == "sparqle_pretrain"
if {arguments!r}:
    sys.argv = ["fairseq-train", *{arguments!r}]
    train.cli_main()
print("done")
"""

ORDERS = {
    "import alone": "import sparqle_fairseq",
    "import and register": "import sparqle_fairseq; sparqle_fairseq.register()",
    "fairseq first": "import fairseq, sparqle_fairseq",
}


def run(folder: Path, first: str, user_dirs: list[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    code = SCRIPT.format(first=first, user_dirs=user_dirs, arguments=arguments)
    return script(code, cwd=folder, package_first=not first.startswith("import fairseq"))


@pytest.mark.parametrize("order", ORDERS)
def test_user_dir_and_an_import_go_together(order, tmp_path, world):
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "sparqle_fairseq").symlink_to(PACKAGE)
    arguments: list[str] = []
    if order == "import and register":  # then a whole command, from a script
        arguments = [str(word) for word in pretrain_arguments(world, tmp_path / "run", updates=1)]
    user_dirs = ["sparqle_fairseq", str(PACKAGE), f"{PACKAGE}/", "link/sparqle_fairseq"]
    done = run(tmp_path, ORDERS[order], user_dirs, arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "done"
    assert "is imported already from" not in done.stdout + done.stderr, "it is the same folder"
    if arguments:
        assert (tmp_path / "run" / "checkpoint_last.pt").is_file()


def test_another_copy_is_named(tmp_path):
    other = tmp_path / "sparqle_fairseq"
    other.mkdir()
    done = run(tmp_path, "from sparqle_fairseq.models.stage2 import model", [str(other)], [])
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout + done.stderr  # fairseq's logs go to either, by what is imported first
    assert f"--user-dir {other}: the plugin is imported already from {PACKAGE}, and that is used" in said


def test_waiting_for_fairseq_costs_an_import_nothing():
    code = "import sys, json, sparqle_fairseq; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"torch", "fairseq", "transformers", "numpy", "omegaconf"}
