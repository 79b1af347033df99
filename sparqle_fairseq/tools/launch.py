"""Several processes for fairseq's commands, on GPUs and on CPUs, under torchrun, under SLURM or started here.

fairseq finds out by itself where it runs when there are GPUs. Without any it does not: under torchrun it divides by
their number, which is 0, or trains every process on its own without a word. So the place of a process is worked out
here and given to fairseq in explicit options.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sparqle_fairseq
from sparqle_fairseq.data.signals import SIGNALS, STOPPED
from sparqle_fairseq.errors import SparqleError

# Command -> module and whether its processes talk to each other (or each just takes its share of the data).
COMMANDS = {
    "fairseq-train": ("fairseq_cli.train", True),
    "fairseq-hydra-train": ("fairseq_cli.hydra_train", True),
    "fairseq-validate": ("fairseq_cli.validate", True),
    "fairseq-generate": ("fairseq_cli.generate", False),
}
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 10
# How long to wait for the failure behind a lost connection, and what such a loss is called by gloo, NCCL and torch.
CULPRIT_SECONDS = 10
_LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|remote process exited|ncclremoteerror|gloo|TCPStore", re.I
)
_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessPlace(NamedTuple):
    """One process among several."""

    rank: int
    world_size: int
    local_rank: int
    init_method: str


def place_of(environment: Mapping[str, str]) -> ProcessPlace | None:
    """The place that torchrun or SLURM gave this process; None for one that stands alone. Raises `SparqleError`."""
    if all(name in environment for name in _TORCHRUN):
        local = int(environment.get("LOCAL_RANK", 0))
        return ProcessPlace(int(environment["RANK"]), int(environment["WORLD_SIZE"]), local, "env://")
    if int(environment.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in environment:
        host = environment.get("MASTER_ADDR") or _first_host(environment)
        # One of a range that is free for users, the same for all processes of a job.
        port = environment.get("MASTER_PORT") or str(20000 + int(environment.get("SLURM_JOB_ID", 0)) % 20000)
        return ProcessPlace(
            int(environment["SLURM_PROCID"]),
            int(environment["SLURM_NTASKS"]),
            int(environment.get("SLURM_LOCALID", 0)),
            f"tcp://{host}:{port}",
        )
    return None


def _first_host(environment: Mapping[str, str]) -> str:
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or ""
    try:
        found = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return found.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise SparqleError(
            f"the first host of SLURM's {nodes!r} could not be found with scontrol; set MASTER_ADDR to its name"
        ) from error


def arguments_for(place: ProcessPlace, command: str, arguments: Sequence[str], gpus: int) -> list[str]:
    """The command's arguments with the process's place among them.

    Args:
        place: which process this is.
        command: one of `COMMANDS`.
        arguments: what the person typed after it.
        gpus: GPUs of this machine.
    """
    hydra = command == "fairseq-hydra-train"
    on_cpu = gpus == 0 or "--cpu" in arguments or "common.cpu=true" in arguments
    options: dict[str, object] = {"world-size": place.world_size, "rank": place.rank}
    if COMMANDS[command][1]:
        options |= {"init-method": place.init_method, "no-spawn": True, "backend": "gloo" if on_cpu else "nccl"}
    words = list(arguments)
    if hydra:
        words += [
            f"distributed_training.distributed_{name.replace('-', '_')}={value}" for name, value in options.items()
        ]
    else:
        for name, value in options.items():
            words += [f"--distributed-{name}"] if value is True else [f"--distributed-{name}", str(value)]
    if COMMANDS[command][1] and not on_cpu:
        words += (
            [f"distributed_training.device_id={place.local_rank}"] if hydra else ["--device-id", str(place.local_rank)]
        )
    # fairseq's default wants a GPU, and the frozen parts make every gradient dense: the plain form serves both.
    if COMMANDS[command][1] and not any("ddp-backend" in word or "ddp_backend" in word for word in words):
        words += ["distributed_training.ddp_backend=legacy_ddp"] if hydra else ["--ddp-backend", "legacy_ddp"]
    if not COMMANDS[command][1] and "--results-path" in words:
        # Each process writes a file of its own name; `sparqle merge-results` puts them together.
        at = words.index("--results-path") + 1
        words[at] = os.path.join(words[at], f"part-{place.rank}-of-{place.world_size}")
    return words


def on_cpu(command: str, arguments: Sequence[str]) -> list[str]:
    """The arguments with the command's own word for "no GPU"."""
    word = "common.cpu=true" if command == "fairseq-hydra-train" else "--cpu"
    return [*arguments, *([] if word in arguments else [word])]


def run_here(command: str, arguments: Sequence[str], alone: bool = False) -> None:
    """Run a fairseq command in this process, as the place that it was given, or as the only one (`alone`)."""
    import torch

    place = place_of(os.environ)
    words = list(arguments)
    if alone or (place is not None and place.world_size == 1):
        # The world of a configuration file may be that of a larger machine.
        hydra = command == "fairseq-hydra-train"
        words += ["distributed_training.distributed_world_size=1"] if hydra else ["--distributed-world-size", "1"]
    elif place is not None:
        words = arguments_for(place, command, words, torch.cuda.device_count())
    module = importlib.import_module(COMMANDS[command][0])
    # This package is imported already, so fairseq's import of --user-dir would not do it.
    sparqle_fairseq.register()
    sys.argv = [command, *words]
    module.cli_main()


def start_processes(processes: int, command: str, arguments: Sequence[str]) -> int:
    """Run `processes` of a fairseq command on this machine; returns 0, or the exit status of the first that failed.

    When one fails the others are ended, since they would wait for it; what it said last is said once more at the end.
    SIGTERM and SIGUSR1 are passed on: training saves and exits with `STOPPED`, which is returned.
    """
    running: list[subprocess.Popen[str]] = []

    def pass_on(number: int, _: object) -> None:
        if len(running) < processes:
            sys.exit(128 + number)  # through `finally`
        for process in running:
            process.send_signal(number)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)), **os.environ}
    shared |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = [sys.executable, "-m", "sparqle_fairseq.cli.main", "launch", command, *arguments]
    readers, last_words = [], [""] * processes
    try:
        for rank in range(processes):
            own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            running.append(subprocess.Popen(words, env=own, stderr=subprocess.PIPE, text=True, errors="replace"))
            readers.append(threading.Thread(target=_pass_on, args=(running[rank], rank, last_words), daemon=True))
            readers[rank].start()
        failed = _culprit(running, last_words, _first_failure(running))
    finally:
        _end(running)
    for reader in readers:
        reader.join(timeout=5)
    if failed is None:
        return STOPPED if any(process.returncode == STOPPED for process in running) else 0
    said = last_words[failed].removeprefix(f"[rank{failed}]: ").removeprefix("error: ") or "it said nothing"
    print(f"error: process {failed} of {processes} failed: {said}", file=sys.stderr)
    return running[failed].returncode if running[failed].returncode > 0 else 1


def _pass_on(process: subprocess.Popen[str], rank: int, last_words: list[str]) -> None:
    """Show what a process says on stderr, and keep its last line."""
    for line in process.stderr or ():
        sys.stderr.write(line)
        last_words[rank] = line.strip() or last_words[rank]


def _first_failure(running: Sequence[subprocess.Popen[str]]) -> int | None:
    """Wait until all have ended well or saved and stopped (None), or one has not (its rank)."""
    while True:
        codes = [process.poll() for process in running]
        bad = [rank for rank, code in enumerate(codes) if code not in (None, 0, STOPPED)]
        if bad:
            return bad[0]
        if None not in codes:
            return None
        time.sleep(POLL_SECONDS)


def _culprit(running: Sequence[subprocess.Popen[str]], last_words: Sequence[str], failed: int | None) -> int | None:
    """The process whose failure came first: one that lost its connection failed because another did."""
    for _ in range(round(CULPRIT_SECONDS / POLL_SECONDS)):
        if failed is None or not _LOST.search(last_words[failed]):
            break
        time.sleep(POLL_SECONDS)
        own = [rank for rank, process in enumerate(running) if process.poll() not in (None, 0, STOPPED)]
        failed = next((rank for rank in own if not _LOST.search(last_words[rank])), failed)
    return failed


def _end(running: Sequence[subprocess.Popen[str]]) -> None:
    """End what still runs: kindly first."""
    for process in running:
        if process.poll() is None:
            process.terminate()
    for process in running:
        try:
            process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def check_command(command: str) -> None:
    """Raise `SparqleError` where `command` is none that can be launched."""
    if command not in COMMANDS:
        raise SparqleError(f"{command} cannot be launched; give one of {', '.join(COMMANDS)}")
