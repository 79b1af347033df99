"""Fetch Debian's `asterisk-core-sounds-*` packages (recordings, prompt texts) and unpack them, without root.

Leaves `debs/*.deb` and `unpacked/` in the build folder. Run again, it fetches nothing that is already there.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sparqle_fairseq.files import folder_written_whole, read_text

PACKAGES = (
    "asterisk-core-sounds-en-g722",  # the recordings
    "asterisk-core-sounds-en",  # what they say
    "asterisk-core-sounds-fr",  # the same prompts in (Canadian) French
    "asterisk-core-sounds-es",  # and in (Mexican) Spanish
)
BY_HAND = f"get the .deb files of {', '.join(PACKAGES)} (Debian main) and name their folder with --debs DIR"


class FetchError(Exception):
    """What is missing and what to do about it, in one sentence."""


def newest_deb(folder: Path, package: str) -> Path | None:
    """The .deb file of `package` in `folder` (the last by name where there are several), or None."""
    return max(folder.glob(f"{package}_*.deb"), default=None)


def download(package: str, debs: Path) -> Path:
    """Fetch one package with `apt-get download`, which checks Debian's signatures and needs no root."""
    if shutil.which("apt-get") is None:
        raise FetchError(f"apt-get was not found, so {package} cannot be fetched here; {BY_HAND}.")
    partial = debs / f".{package}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    run = subprocess.run(
        ["apt-get", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=60", "download", package],
        cwd=partial,
        capture_output=True,
        text=True,
    )
    deb = newest_deb(partial, package)
    if run.returncode != 0 or deb is None:
        shutil.rmtree(partial, ignore_errors=True)
        said = [line for line in run.stderr.splitlines() if line.startswith("E:")]
        reason = said[0].removeprefix("E:").strip().rstrip(".") if said else f"exit status {run.returncode}"
        raise FetchError(
            f"apt-get could not fetch {package} ({reason}); run `apt-get update` as root and try again, or {BY_HAND}."
        )
    final = debs / deb.name
    os.replace(deb, final)
    partial.rmdir()
    return final


def collect(debs: Path, given: Path | None) -> list[Path]:
    """One .deb file for each package: from the folder `given` if there is one, else from `debs`, fetched."""
    if given is not None:
        found = {package: newest_deb(given, package) for package in PACKAGES}
        missing = [package for package, deb in found.items() if deb is None]
        if missing:
            raise FetchError(f"{given} holds no .deb file of {', '.join(missing)}; put it there and try again.")
        return [deb for deb in found.values() if deb is not None]
    result = []
    for number, package in enumerate(PACKAGES, 1):
        deb = newest_deb(debs, package)
        print(f"[{number}/{len(PACKAGES)}] {package}: {'already here' if deb else 'fetching'}", flush=True)
        result.append(deb or download(package, debs))
    return result


def unpack(debs: Sequence[Path], target: Path) -> None:
    """Unpack all packages into `target`, which appears only when the last one is in it."""
    if shutil.which("dpkg-deb") is None:
        raise FetchError("dpkg-deb was not found, so the packages cannot be unpacked; install `dpkg` and try again.")
    with folder_written_whole(target) as folder:
        for deb in debs:
            print(f"unpacking {deb.name} ({deb.stat().st_size / 1e6:.1f} MB)", flush=True)
            run = subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], capture_output=True, text=True)
            if run.returncode != 0:
                reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
                raise FetchError(f"dpkg-deb could not unpack {deb} ({reason}); delete the file and fetch it again.")
        shutil.rmtree(target, ignore_errors=True)


def fetch(build: Path, given: Path | None = None) -> Path:
    """Make `build/unpacked` and return it; see `FetchError` for what can be missing."""
    debs = collect(build / "debs", given)
    target, stamp = build / "unpacked", build / "unpacked.txt"
    listing = "".join(f"{deb.name}\t{deb.stat().st_size}\n" for deb in debs)
    if target.is_dir() and stamp.is_file() and read_text(stamp) == listing:
        print(f"{target} is already unpacked")
        return target
    stamp.unlink(missing_ok=True)
    unpack(debs, target)
    stamp.write_text(listing, encoding="utf-8")
    print(f"unpacked into {target}")
    return target


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build/voice_prompts"), help="folder to work in")
    parser.add_argument("--debs", type=Path, help="folder of .deb files that you have; nothing is fetched then")
    args = parser.parse_args(argv)
    try:
        fetch(args.build, args.debs)
    except (FetchError, OSError) as error:
        sys.exit(f"fetch: {error}")


if __name__ == "__main__":
    main()
