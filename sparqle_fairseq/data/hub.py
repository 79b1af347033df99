"""Hub ids (`owner/name`, `owner/name@revision`): downloaded by huggingface_hub into its cache, and compared.

huggingface_hub looks at the size of what it downloads. What is newly in the cache is held against its name there: the
sha256 of a large file, git's hash of a small one. No code of a repository is downloaded.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparqle_fairseq.errors import SparqleError, reason

# What a model is configured by, its tokenizer's files with it; and its weights, in the order in which they are wanted.
SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model", "*.yaml")
WEIGHTS = (
    ("model.safetensors", "model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model-*.bin"),
)
_ID = re.compile(r"(?P<name>[\w-][\w.-]*(/[\w-][\w.-]*)?)(@(?P<revision>[\w][\w./-]*))?")
_BLOCK = 1 << 20


class HubError(SparqleError):
    """Something that cannot be had from the hub. The message is one sentence."""


def is_hub_id(text: str) -> bool:
    """Whether it names nothing here, and could be an id of the hub."""
    return not Path(text).exists() and _ID.fullmatch(text) is not None


def local_folder(place: str, patterns: Sequence[str] = SETTINGS) -> str:
    """The place itself, or of a hub id the folder of its copy, with the files of `patterns`. Raises `HubError`."""
    return str(downloaded(place, patterns)) if is_hub_id(place) else place


def folder_with_weights(place: str) -> str:
    """The same with all that a model is read from: its safetensors, or where it has none its pickled tensors."""
    if not is_hub_id(place):
        return place
    folder = Path()
    for weights in WEIGHTS:
        folder = downloaded(place, (*SETTINGS, *weights))
        if any(next(folder.glob(pattern), None) for pattern in weights):
            break
    return str(folder)


def downloaded(place: str, patterns: Sequence[str], options: Mapping[str, Any] | None = None) -> Path:
    """The folder of a repository's files in the cache of huggingface_hub, those of `patterns` downloaded before.

    Args:
        place: `owner/name`, and `@` with a branch, a tag or a commit.
        patterns: of file names.
        options: more of `snapshot_download`, such as `token`; a `revision` there is looked at where `place` has none.

    Raises:
        HubError: no such repository, revision or file, no access or network, or a file that came damaged, which is
            gone again.
    """
    found = _ID.fullmatch(place)
    if found is None:
        raise HubError(f"{place} is no file or folder here, and no hub id (owner/name); check the name")
    from huggingface_hub import snapshot_download

    named = dict(options or {})
    revision = found["revision"] or named.pop("revision", None)
    named.pop("revision", None)
    blobs = _blobs(found["name"], named.get("cache_dir"))
    before = _names(blobs)
    try:
        folder = Path(snapshot_download(found["name"], revision=revision, allow_patterns=list(patterns), **named))
    except Exception as error:  # the hub's client, the network and the disk raise many kinds
        raise HubError(_said(place, error)) from error
    for path in _new(folder, before):
        _compare(place, path)
    return folder


def _blobs(name: str, cache: str | os.PathLike[str] | None) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(cache or HF_HUB_CACHE).expanduser() / f"models--{name.replace('/', '--')}" / "blobs"


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()


def _new(folder: Path, before: set[str]) -> Iterator[Path]:
    """Files of a copy whose content was not in the cache before."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and _hash_of(path) not in before:
            yield path


def _hash_of(path: Path) -> str:
    """The hash that a file of a copy must have: the name of its content."""
    return os.path.basename(os.readlink(path))


def _compare(place: str, path: Path) -> None:
    """Take a file that is not what the hub says away again. Raises `HubError`."""
    said, size = _hash_of(path), path.stat().st_size
    if re.fullmatch("[0-9a-f]{64}", said):
        digest = hashlib.sha256()
    elif re.fullmatch("[0-9a-f]{40}", said):
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    else:
        return  # another hub's own names
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != said:
        content = path.parent / os.readlink(path)
        path.unlink()
        content.unlink(missing_ok=True)
        raise HubError(
            f"{place}: {path.name} came damaged ({digest.name} {digest.hexdigest()[:12]}…, and the hub says "
            f"{said[:12]}…) and was removed; give the command again"
        )


def _said(place: str, error: Exception) -> str:
    """What an error of the hub's client means."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{place} is gated on the hub, and you have no access; ask for it on its page there, and log in here with "
            "hf auth login"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{place}: the hub has no such revision of it; check what is behind the @"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{place} is no file or folder here, and on the hub there is none of this name that you may see; check the "
            "name, or log in with hf auth login"
        )
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return f"{place}: the hub refuses it to you ({reason(error, 80)}); log in with hf auth login"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{place}: the hub lists a file and does not have it ({reason(error, 160)}); tell who made it"
    local = isinstance(error, errors.LocalEntryNotFoundError | errors.IncompleteSnapshotError)
    if local and constants.HF_HUB_OFFLINE:
        return (
            f"{place} is no file or folder here, and as a hub id it can neither be reached (HF_HUB_OFFLINE is set) nor "
            f"found whole in the cache; download it where there is a network (hf download {place.partition('@')[0]})"
        )
    return (
        f"{place} is no file or folder here, and as a hub id it can neither be reached nor found whole in the cache "
        f"({type(error).__name__}: {reason(error, 160)}); check the name and the network, or give a folder"
    )
