"""`sparqle` itself: quick help that fits a screen, exit codes, completion in real shells, Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from commands import command

from sparqle_fairseq.cli import main as module
from sparqle_fairseq.cli.main import COMMANDS, main
from sparqle_fairseq.errors import SparqleError

SPARQLE = Path(sys.executable).parent / "sparqle"
HEAVY = ("torch", "fairseq", "transformers", "numpy", "soundfile", "rich")


def test_help_fits_a_screen_and_names_every_command(capsys) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) < 80
    named = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :]]
    assert named == list(COMMANDS)


def test_help_starts_in_under_a_second() -> None:
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        command("sparqle", "--help")
        taken.append(time.perf_counter() - started)
    assert min(taken) < 1


def test_no_help_imports_anything_heavy() -> None:
    """Not even that of a sub-command: what runs is imported when it runs."""
    script = (
        "import sys\n"
        "from sparqle_fairseq.cli.main import COMMANDS, main\n"
        "assert main(['--help']) == 0\n"
        "assert all(main([name, '--help']) == 0 for name in COMMANDS)\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["validate", "--help"], 0),
        (["validate", "no/such.tsv", "--workers", "1"], 1),
        (["validate", "x.tsv", "--report", "no/folder/r.json"], 1),
        ([], 2),
        (["valdate"], 2),
        (["validate"], 2),
        (["validate", "--no-such-option"], 2),
        (["--no-such-option"], 2),
    ],
)
def test_exit_codes(arguments: list[str], code: int, capsys) -> None:
    assert main(arguments) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["validate", "no.tsv"], 1), (["validate"], 2)])
def test_the_program_ends_with_the_code(arguments: list[str], code: int) -> None:
    done = command("sparqle", *arguments, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def add(monkeypatch, function) -> None:
    """A sub-command `try` that calls `function`."""
    made = click.Command("try", callback=function)
    monkeypatch.setattr(module.Commands, "get_command", lambda *_: made)


def fail(error: BaseException):
    def function() -> None:
        raise error

    return function


def test_an_error_is_one_sentence(monkeypatch, capsys) -> None:
    monkeypatch.delenv("SPARQLE_TRACEBACK", raising=False)
    add(monkeypatch, fail(SparqleError("train.tsv:3: found nothing; write something")))
    assert main(["try"]) == 1
    assert capsys.readouterr().err == "error: train.tsv:3: found nothing; write something\n"


def test_a_mistake_of_the_program_keeps_its_traceback(monkeypatch) -> None:
    add(monkeypatch, fail(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["try"])


@pytest.mark.parametrize(
    ("result", "code"), [(None, 0), (0, 0), (1, 1), (True, 1), (False, 0), ("a path", 0), ([1], 0)]
)
def test_only_a_number_that_a_command_returns_is_its_exit_code(monkeypatch, result: object, code: int) -> None:
    add(monkeypatch, lambda: result)
    assert main(["try"]) == code


def test_ctrl_c_says_interrupted_and_no_more(monkeypatch, capsys) -> None:
    add(monkeypatch, fail(KeyboardInterrupt()))
    assert main(["try"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


@pytest.mark.parametrize("sign", [rb"row/s", rb" [1-9]\d*/400000"], ids=["while workers start", "while they work"])
def test_ctrl_c_ends_a_command_and_its_workers(tmp_path: Path, sign: bytes) -> None:
    path = tmp_path / "train.tsv"
    rows = "".join(f"u{k}\tx.wav\t48000\tThe ferry is late because of the fog.\n" for k in range(400_000))
    path.write_text(f"id\taudio\tn_frames\tsrc_text\n{rows}")
    process = subprocess.Popen(
        [str(SPARQLE), "validate", str(path), "--no-audio", "--workers", "2", "--fix"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        # A test run in the background of a script has Ctrl-C off, and would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert process.stderr is not None
    seen = b""
    while not re.search(sign, seen):  # in the progress bar
        seen += os.read(process.stderr.fileno(), 4096)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in seen + err
    assert err.rstrip().endswith(b"interrupted")
    assert out == b""
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no worker is left
    assert sorted(file.name for file in tmp_path.iterdir()) == ["train.tsv"]


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{SPARQLE} completion zsh | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stdout.strip() in ("0", "1")


# -- completion ----------------------------------------------------------------------------------------------

ASKS = {  # what click's three scripts send: words, and which of them is completed
    "bash": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
    "zsh": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
    "fish": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": words[-1]},
}


@pytest.mark.parametrize("shell", ASKS)
def test_every_shell_gets_the_commands_and_options(shell: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("_SPARQLE_COMPLETE", f"{shell}_complete")

    def answers(*words: str) -> str:
        for name, value in ASKS[shell](words).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit, match=r"^0$"):
            main([])
        return capsys.readouterr().out

    assert all(name in answers("sparqle", "") for name in COMMANDS)
    assert "validate" in answers("sparqle", "val")
    assert "prepare" not in answers("sparqle", "val")
    assert "--no-audio" in answers("sparqle", "validate", "--no")
    assert "translation" in answers("sparqle", "validate", "--row-task", "transl")
    assert "file" in answers("sparqle", "validate", "tra")  # the shell itself completes file names


# Each loads the script that `sparqle completion` prints and asks the shell for completions of a line.
SHELLS = {
    "bash": (
        'source <("$SPARQLE" completion bash); COMP_WORDS=(sparqle validate --no); COMP_CWORD=2; '
        "_sparqle_completion sparqle; printf '%s\\n' \"${COMPREPLY[@]}\""
    ),
    # Completion functions of zsh run inside its line editor only; these two stand for what they call there.
    "zsh": (
        "compdef() { :; }; source <($SPARQLE completion zsh); compadd() { print -l -- ${(P)5}; }; "
        "_describe() { print -l -- ${(P)3}; }; words=(sparqle validate --no); CURRENT=3; "
        "_sparqle_completion sparqle"
    ),
    "fish": '"$SPARQLE" completion fish | source; complete --do-complete "sparqle validate --no"',
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_printed_script_completes_in_its_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    environment = {**os.environ, "SPARQLE": str(SPARQLE), "PATH": f"{SPARQLE.parent}:{os.environ['PATH']}"}
    done = subprocess.run([shell, "-c", SHELLS[shell]], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert "--no-audio" in done.stdout
    assert "--report" not in done.stdout
