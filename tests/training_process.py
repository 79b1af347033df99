"""fairseq-train in a process of its own, which can be killed: a fork of this one, so that it has all imports."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from commands import train_here


class TrainingProcess:
    """A running training. `log` is where it writes what it says; `prepare` runs in it before training."""

    def __init__(self, arguments: list[Any], log: Path, prepare: Callable[[], None] | None = None) -> None:
        self.log = log
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(output, 1)
                os.dup2(output, 2)
                os.chdir(Path(__file__).parent.parent)
                _log_to(sys.__stderr__)
                if prepare is not None:
                    prepare()
                train_here(arguments)
                status = 0
            except SystemExit as leave:
                status = leave.code if isinstance(leave.code, int) else 1
            except BaseException as error:
                from sparqle_fairseq.errors import sentence_of

                print(f"error: {sentence_of(error) or traceback.format_exc()}", file=sys.__stderr__)
            finally:
                sys.__stderr__.flush()
                os._exit(status)

    def wait(self) -> int:
        """The exit status; minus the signal's number where one ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill_after(self, cpu_seconds: float) -> int:
        """Send SIGKILL when so much CPU time is used up; the exit status, 0 where it was done before."""
        tick = os.sysconf("SC_CLK_TCK")
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
            if (int(fields[11]) + int(fields[12])) / tick >= cpu_seconds:
                os.kill(self.pid, signal.SIGKILL)
                return self.wait()
            time.sleep(0.005)

    def signal_after(self, text: str, number: int, seconds: float = 120) -> None:
        """Send a signal when the log says `text`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.log.exists() and text in self.log.read_text():
                os.kill(self.pid, number)
                return
            time.sleep(0.005)
        raise AssertionError(f"{text!r} did not come: {self.log.read_text()[-2000:]}")


def _log_to(stream: Any) -> None:
    """Whatever was set up for logs by whoever forked: a fresh process logs to its own stream."""
    import logging

    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    logging.basicConfig(stream=stream, level=logging.INFO, format="%(levelname)s | %(message)s")


def run(arguments: list[Any], log: Path, prepare: Callable[[], None] | None = None) -> int:
    return TrainingProcess(arguments, log, prepare).wait()


def state_of(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested states differ in any bit."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [where]
    if isinstance(one, dict):
        if not isinstance(other, dict) or one.keys() != other.keys():
            return [where]
        return [found for key in one for found in differences(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [where]
        return [found for i, part in enumerate(one) for found in differences(part, other[i], f"{where}.{i}")]
    return [] if one == other else [where]


def progress_of(path: Path) -> dict[str, Any]:
    """All of a checkpoint that training goes on from."""
    state = state_of(path)
    history = state["optimizer_history"][-1]
    kept = {name: state["extra_state"].get(name) for name in ("train_iterator", "ema")}
    return {
        "model": state["model"],
        "optimizer": state.get("last_optimizer_state"),
        "history": {name: history[name] for name in ("num_updates", "lr_scheduler_state")},
        **kept,
    }
