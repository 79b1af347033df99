"""Starts the page: loads the model once, then answers until it is told to end."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sparqle_fairseq.data.audio import is_audio
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.errors import MissingPackage, SparqleError, reason
from sparqle_fairseq.files import read_lines
from sparqle_fairseq.tools.page.languages import codes_of
from sparqle_fairseq.tools.page.limits import MEGABYTE, Limits
from sparqle_fairseq.tools.page.model import load_checkpoint, told_apart
from sparqle_fairseq.tools.page.service import Service

HERE = "127.0.0.1"
EXAMPLES = 3
# A browser takes nothing for this page from any other server, whatever gradio's own files ask for.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str
    compare_with: str | None = None
    host: str = HERE
    port: int | None = None
    auth: Path | None = None
    languages: str | None = None
    example: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    speech_encoder: str | None = None
    llm: str | None = None
    text_tokenizer: str | None = None
    cpu: bool = False


def run(options: Options, say: Callable[[str], Any]) -> None:
    """Serve until the process is interrupted. Raises `SparqleError` where the page cannot start."""
    with serving(options, say) as url:
        say(f"the page is at {url}; end it with Ctrl-C")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            say("ended")


@contextmanager
def serving(options: Options, say: Callable[[str], Any]) -> Iterator[str]:
    """The page's address while it is served; uploads and results are gone afterwards."""
    _check_gradio()
    people = None if options.auth is None else _people(options.auth)
    if options.host not in (HERE, "localhost", "::1") and people is None:
        say(
            f"warning: --host {options.host} opens the page to everyone who can reach this machine; give --auth FILE, "
            "or leave --host out"
        )
    examples = _examples(options.example)
    service = load_service(options, say)
    # fairseq's configuration made every library say all that it does.
    logging.getLogger().setLevel(logging.WARNING)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sparqle-page-"))
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparqle-examples-")))
        examples = [(label, _copied(path, place)) for label, path in examples]
        page, url = launch(service, examples, folder, options.host, options.port, people)
        stack.callback(page.close, verbose=False)
        yield url


def load_service(options: Options, say: Callable[[str], Any]) -> Service:
    """The model, loaded once and while somebody waits."""
    places = {
        "speech_encoder": options.speech_encoder,
        "llm": options.llm,
        "text_tokenizer": options.text_tokenizer,
        "cpu": options.cpu,
    }
    codes = codes_of(options.languages.split(",")) if options.languages else []
    with _while_loading(options.model, say):
        model = load_checkpoint(options.model, codes, **places)
    rival = None
    if options.compare_with:
        with _while_loading(options.compare_with, say):
            rival = load_checkpoint(options.compare_with, codes, cpu=options.cpu)
        names = told_apart(options.model, options.compare_with)
        model.about, rival.about = (
            replace(one.about, checkpoint=name) for one, name in zip((model, rival), names, strict=True)
        )
    return Service(model, options.limits, rival)


def launch(
    service: Service,
    examples: Sequence[tuple[str, str]],
    folder: str,
    host: str = HERE,
    port: int | None = None,
    people: list[tuple[str, str]] | None = None,
) -> tuple[Any, str]:
    """The served page and its address; what people upload is kept in `folder`."""
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from starlette.middleware import Middleware

    from sparqle_fairseq.tools.page.app import build_page
    from sparqle_fairseq.tools.page.style import CSS, theme

    page = build_page(service, examples)
    most = service.limits.waiting
    # The service has its own line, which says who is before whom; gradio's only bounds what may come at all.
    page.queue(max_size=4 * (most + 2), default_concurrency_limit=most + 2)
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            auth=people,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            inbrowser=False,
            show_error=False,
            max_file_size=int(service.limits.megabytes * MEGABYTE),
            max_threads=2 * most + 40,
            footer_links=["api"],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            strict_cors=True,
            theme=theme(),
            css=CSS,
            app_kwargs={"middleware": [Middleware(Headers)], "docs_url": None, "redoc_url": None},
        )
    except OSError as error:
        raise SparqleError(f"the page cannot be served at {host}:{port or '7860'} ({reason(error)})") from error
    return page, url


class Headers:
    """Adds `POLICY` and its like to every answer (ASGI)."""

    ADDED = (
        (b"content-security-policy", POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self.ADDED]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def _check_gradio() -> None:
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MissingPackage(
            f"the page needs gradio ({reason(error)}); install it with pip install 'sparqle-fairseq[page]'"
        ) from error


def _people(path: Path) -> list[tuple[str, str]]:
    """Names and passwords of a file with a line `name:password` for each."""
    found = []
    for number, line in enumerate(read_lines(path, "file of passwords"), 1):
        if not line.strip():
            continue
        name, mark, password = line.partition(":")
        if not (name and mark and password):
            raise SparqleError(f"{path}:{number} is no line of the form name:password; correct it")
        found.append((name, password))
    if not found:
        raise SparqleError(f"{path} names nobody; write a line name:password for each person")
    return found


def _examples(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """(label, path) of recordings, or of the first few of a manifest."""
    found: dict[str, str] = {}
    for path in paths:
        if path.suffix == ".tsv":
            manifest = read_manifest(path)
            for i in range(len(manifest)):
                row = manifest.row(i)
                if Path(row.audio).is_file() and is_audio(Path(row.audio)) and len(found) < EXAMPLES:
                    found.setdefault(row.audio, f"“{row.src_text or row.id}”")
        elif path.is_file():
            found.setdefault(str(path), path.stem)
        else:
            raise SparqleError(f"{path}: there is no such file; --example takes a recording or a manifest (.tsv)")
    return [(label, audio) for audio, label in list(found.items())[:EXAMPLES]]


def _copied(path: str, folder: Path) -> str:
    """Where a copy of an example lies: the page gives out nothing but what is in its own folders."""
    place = Path(tempfile.mkdtemp(dir=folder), Path(path).name)
    shutil.copyfile(path, place)
    return str(place)


@contextmanager
def _while_loading(checkpoint: str, say: Callable[[str], Any]) -> Iterator[None]:
    """Says that a model is being loaded, ticks on a terminal, and how long it took."""
    say(f"loading {checkpoint} with its speech encoder and LLM")
    begun = time.monotonic()
    over = threading.Event()

    def tick() -> None:
        while not over.wait(1):
            print(f"\r{time.monotonic() - begun:.0f} s ", end="", file=sys.stderr, flush=True)

    ticking = threading.Thread(target=tick, daemon=True)
    if sys.stderr.isatty():
        ticking.start()
    try:
        yield
    finally:
        over.set()
        if ticking.is_alive():
            ticking.join()
            print("\r", end="", file=sys.stderr)
    say(f"loaded in {time.monotonic() - begun:.0f} s")
