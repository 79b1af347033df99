"""Does the page answer or refuse everybody when many ask at once, mix nothing up, and give its memory back?

Starts `sparqle page` in a process of its own. In each round 10 clients send 5 requests each, of recordings and
languages that differ, and every answer is compared with what the same request gave alone. The memory is the resident
set of the page's process, before the first round and after each.

    python benchmarks/page_load.py --model build/demo/stage2/checkpoint_last.pt build/demo/wav/s031*.wav
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

CLIENTS, REQUESTS, ROUNDS = 10, 5, 3
BUSY = "the page is busy"
OUTCOMES = ("answered", "refused", "mixed up", "failed")  # refused: with the sentence of the queue
SETTINGS = {"beam": 2, "seed": 1}
LANGUAGES = ("fr", "de")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--waiting", type=int, default=8, help="of the page")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    command = [str(Path(sys.executable).parent / "sparqle"), "page", "--model", arguments.model, "--cpu"]
    page = subprocess.Popen([*command, "--waiting", str(arguments.waiting)], stderr=subprocess.PIPE, text=True)
    try:
        return load(page, arguments)
    finally:
        page.terminate()
        page.wait(30)


def load(page: subprocess.Popen[str], arguments: argparse.Namespace) -> int:
    from gradio_client import Client

    url = address(page)
    # A busy machine is no failure of the page.
    clients = [Client(url, verbose=False, httpx_kwargs={"timeout": 300}) for _ in range(CLIENTS)]
    wanted = {
        (path, language): ask(clients[0], path, language) for path in arguments.recordings for language in LANGUAGES
    }
    if {"refused", "failed"} & set(wanted.values()):
        print("a request that was alone was not answered")
        return 1
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs"
    print(f"{machine}, {len(wanted)} requests that differ, --waiting {arguments.waiting}")
    print(f"memory before: {resident(page.pid):.0f} MiB", flush=True)
    drawn = random.Random(arguments.seed)
    wrong = 0
    for number in range(1, arguments.rounds + 1):
        plan = [[drawn.choice(list(wanted)) for _ in range(REQUESTS)] for _ in range(CLIENTS)]
        begun = time.monotonic()
        outcomes = Counter(of_round(clients, plan, wanted))
        wrong += outcomes["mixed up"] + outcomes["failed"]
        counts = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in OUTCOMES)
        seconds = time.monotonic() - begun
        print(f"round {number}: {counts}; {seconds:.0f} s; memory {resident(page.pid):.0f} MiB", flush=True)
    return 1 if wrong else 0


def address(page: subprocess.Popen[str]) -> str:
    """Where the page says that it is."""
    assert page.stderr is not None
    for line in page.stderr:
        if found := re.search(r"the page is at (\S+?);", line):
            # What it says later must not fill the pipe.
            threading.Thread(target=page.stderr.read, daemon=True).start()
            return found[1]
        print(line, end="", file=sys.stderr)
    raise SystemExit("the page did not start")


def of_round(clients: list[Any], plan: list[list[tuple[Path, str]]], wanted: dict[tuple[Path, str], str]) -> list[str]:
    """The outcome of each request, all clients at the same time."""
    found: list[str] = []

    def one(client: Any, requests: list[tuple[Path, str]]) -> None:
        for request in requests:
            text = ask(client, *request)
            if text == wanted[request]:
                found.append("answered")
            else:
                found.append(text if text in ("refused", "failed") else "mixed up")

    threads = [threading.Thread(target=one, args=pair) for pair in zip(clients, plan, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def ask(client: Any, recording: Path, language: str) -> str:
    """The text of a recording; `refused` where the line was full, `failed` where it was anything else."""
    from gradio_client import handle_file

    try:
        audio = handle_file(str(recording))
        answer = client.predict(audio, "translate", [language], SETTINGS, "1", "", api_name="/translate")
    except Exception as error:
        if BUSY in str(error):
            return "refused"
        print(f"failed: {error}", file=sys.stderr)
        return "failed"
    (result,) = answer["results"]
    return f"{answer['audio']} {result['language']} " + " ".join(segment["text"] for segment in result["segments"])


def resident(process: int) -> float:
    """MiB of memory that a process has (Linux)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
