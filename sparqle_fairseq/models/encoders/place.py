"""Where a speech encoder lies: a file, a folder, or a Hugging Face hub id, and what can be read there."""

import os
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.data.hub import HubError, downloaded, is_hub_id
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_json
from sparqle_fairseq.models.encoders.errors import EncoderError

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, WEIGHTS_INDEX, PICKLED_WEIGHTS = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
_FILE_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".json")


class EncoderPlace:
    """What `--speech-encoder` names. Nothing is read, and no hub is asked, before it is needed.

    Args:
        text: a path, a hub id, or whatever a registered encoder makes of it.
    """

    def __init__(self, text: str | Path) -> None:
        self.text = str(text)
        self.path = Path(text)

    def __str__(self) -> str:
        return self.text

    @property
    def names_a_file(self) -> bool:
        """Whether it is a file, or looks like the path of one that is not there."""
        return self.path.is_file() or (not self.path.exists() and self.text.endswith(_FILE_ENDINGS))

    @property
    def is_scheme(self) -> bool:
        """Whether it is `name:…`, which is neither path nor hub id."""
        return not self.path.exists() and re.match(r"[a-z][\w-]+:", self.text) is not None

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json of a folder or hub id; empty where there is none. Raises `EncoderError`."""
        if self.names_a_file or self.is_scheme:
            return {}
        return self._json(CONFIG) or {}

    @cached_property
    def model_type(self) -> str:
        """`model_type` of config.json; empty where there is none."""
        return str(self.config.get("model_type") or "")

    def preprocessor(self) -> dict[str, Any] | None:
        """preprocessor_config.json, or None where there is none. Raises `EncoderError`."""
        return self._json(PREPROCESSOR)

    def tensors(self, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
        """The stored tensors whose names are `wanted`, by name; nothing else is read. Raises `EncoderError`."""
        folder = self._folder([WEIGHTS, WEIGHTS_INDEX, "model-*-of-*.safetensors"])
        if (folder / WEIGHTS_INDEX).is_file() and not (folder / WEIGHTS).is_file():
            shards = sorted(set((self._json(WEIGHTS_INDEX) or {}).get("weight_map", {}).values()))
            found: dict[str, Tensor] = {}
            for shard in shards:
                found |= self._safetensors(folder / os.path.basename(str(shard)), wanted)
            return found
        if (folder / WEIGHTS).is_file():
            return self._safetensors(folder / WEIGHTS, wanted)
        path = self._folder([PICKLED_WEIGHTS]) / PICKLED_WEIGHTS
        if not path.is_file():
            raise EncoderError(
                f"{self} has {CONFIG} but neither {WEIGHTS} nor {PICKLED_WEIGHTS}: copy the weights there as well."
            )
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return {name: value for name, value in state.items() if wanted(name) and isinstance(value, Tensor)}
        except Exception as error:  # torch raises many kinds on a damaged or foreign file
            raise EncoderError(
                f"{path} is damaged, or holds more than tensors: copy it again, or save the model as {WEIGHTS}."
            ) from error

    def _safetensors(self, path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
        from safetensors import safe_open

        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
        except Exception as error:  # its own errors do not derive from OSError or ValueError
            why = reason(error) if path.exists() else "it is not there"
            raise EncoderError(f"{path} cannot be read ({why}): copy or download it again.") from error

    def _json(self, name: str) -> dict[str, Any] | None:
        path = self._folder([CONFIG, PREPROCESSOR]) / name
        if not path.is_file():
            return None
        try:
            return dict(read_json(path))
        except (SparqleError, ValueError, TypeError) as error:  # the last two where it is JSON, but no mapping
            raise EncoderError(f"{path} cannot be read ({reason(error)}): copy or download it again.") from error

    def _folder(self, names: list[str]) -> Path:
        """The folder itself, or the hub's copy of it with the files of these names."""
        if self.path.is_dir():
            return self.path
        if not is_hub_id(self.text):
            raise EncoderError(f"Speech encoder {self} does not exist: check the path.")
        try:
            return downloaded(self.text, names)
        except HubError as error:
            raise EncoderError(f"Speech encoder {error}.") from error
