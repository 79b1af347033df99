"""A function of a test in several real processes of a gloo group: forks of this one, so that they have all imports."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def in_processes(work: Callable[..., Any], world: int, *arguments: Any) -> Any:
    """What `work(rank, world, *arguments)` returns in rank 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    receiver, sender = mp.get_context("fork").Pipe(duplex=False)
    running = mp.start_processes(
        _start, (world, port, work, sender, arguments), nprocs=world, join=False, start_method="fork"
    )
    deadline = time.monotonic() + 600
    while not receiver.poll(0.1):
        running.join(timeout=0.1)  # raises where a process failed
        assert time.monotonic() < deadline, "the processes wait for each other"
    found = receiver.recv()
    while not running.join():
        pass
    return found


def _start(rank: int, world: int, port: int, work: Callable[..., Any], sender: Any, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    result = work(rank, world, *arguments)
    if rank == 0:
        sender.send(result)
    dist.barrier()
    dist.destroy_process_group()
