"""Features on disk and the encoder that made them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparqle_fairseq.models.identity import IdentityError, check_identity

IDENTITY_FILE = "encoder.json"


def write_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    """Say in `folder` which encoder its features come from. Raises `IdentityError` where they come from another."""
    check_features(folder, identity)
    path = folder / IDENTITY_FILE
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def check_features(folder: Path, identity: Mapping[str, Any]) -> None:
    """Raise `IdentityError` where `folder` holds features of another encoder than that of `identity`."""
    path = folder / IDENTITY_FILE
    if not path.exists():
        return
    try:
        made_with = json.loads(path.read_text(encoding="utf-8"))
        items = dict(made_with)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{path} cannot be read; extract the features again") from error
    try:
        check_identity({"speech encoder": items}, {"speech encoder": identity})
    except IdentityError as error:
        raise IdentityError(f"{folder} holds features of another speech encoder than the model's: {error}") from error
