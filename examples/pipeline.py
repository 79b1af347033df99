"""Runs the commands of a recipe as a user would type them: shown, logged, several at a time, with progress."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT = 15.0  # seconds between two lines of progress
SHOWN = (
    "loss",
    "stc_loss",
    "stm_loss",
    "stg_loss",
    "llm_ctc_loss",
    "accuracy",
    "s2t_recall_at_1",
    "stg_accuracy",
    "bleu",
    "wer",
)


@dataclass
class Command:
    """One command line; its output goes to `log`."""

    name: str
    words: Sequence[object]
    log: Path
    threads: int = 1

    @property
    def line(self) -> str:
        """The command as it can be pasted."""
        return shlex.join(map(str, self.words))


class CommandFailed(RuntimeError):
    """A command of the recipe ended with an error."""


def run_together(commands: Sequence[Command], started: float) -> None:
    """Run `commands` side by side and print what each is doing; `started` is when the recipe began (time.monotonic).

    Raises `CommandFailed` with the end of the log of the first that fails; the others are stopped.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # `kill` comes through `finally` too
    for command in commands:
        command.log.parent.mkdir(parents=True, exist_ok=True)
        print(f"\n$ {command.line}\n  (log: {command.log})", flush=True)
    running = [(command, _start(command)) for command in commands]
    shown = time.monotonic()
    try:
        while running:
            time.sleep(0.2)
            for command, process in list(running):
                code = process.poll()
                if code is None:
                    continue
                running.remove((command, process))
                if code:
                    raise CommandFailed(
                        f"{command.name} failed ({code}); the end of {command.log}:\n{_tail(command.log)}"
                    )
                print(f"[{_clock(started)}] {command.name}: done", flush=True)
            if running and time.monotonic() - shown > HEARTBEAT:
                shown = time.monotonic()
                for command, _ in running:
                    print(f"[{_clock(started)}] {command.name}: {progress(command.log)}", flush=True)
    finally:
        for _, process in running:
            process.terminate()


def progress(log: Path) -> str:
    """What the end of a log says about how far its command is."""
    pieces = [piece for piece in re.split(r"[\r\n]", _tail(log, 4000)) if piece.strip()]
    for piece in reversed(pieces):
        values = dict(re.findall(r"(\w+)[= ]([\d.]+)(?=[,| ]|$)", piece))
        if "num_updates" in values:
            found = " ".join(f"{name} {values[name]}" for name in SHOWN if name in values)
            return f"update {values['num_updates']}: {found}"
        if "%|" in piece or "it/s" in piece:
            return piece.strip()[-110:]
    # A warning and the line of code that it quotes say nothing about the command.
    told = [piece for piece in pieces if not piece[0].isspace() and "Warning: " not in piece]
    return told[-1].strip()[-110:] if told else "starting"


def tool(name: str) -> str:
    """A command of this Python's environment (fairseq-train, sparqle, …), by the name that a user types if possible."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name)
    return name if found and Path(found).resolve() == beside.resolve() else str(beside)


def _start(command: Command) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(command.threads),
        "MKL_NUM_THREADS": str(command.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with command.log.open("wb") as log:
        return subprocess.Popen(
            [str(word) for word in command.words], stdout=log, stderr=subprocess.STDOUT, env=environment
        )


def _tail(log: Path, size: int = 3000) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - size))
        return file.read().decode("utf-8", "replace")


def _clock(started: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    return f"{minutes:02d}:{seconds:02d}"
