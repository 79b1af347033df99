"""Speech encoders in fairseq checkpoints: HuBERT, wav2vec 2.0 and data2vec audio, pre-trained or fine-tuned.

The encoder is put together from fairseq's layers and the checkpoint's own configuration, without the pre-training task
around it: dictionaries, label embeddings, quantisers and teachers are not needed to listen.
"""

import argparse
import ast
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
from sparqle_fairseq.errors import need_fairseq
from sparqle_fairseq.models.encoders.errors import EncoderError
from sparqle_fairseq.models.encoders.place import CONFIG, EncoderPlace
from sparqle_fairseq.models.encoders.registry import register_encoder
from sparqle_fairseq.models.encoders.wav2vec import ConvTransformer, Part
from sparqle_fairseq.models.encoders.weights import fingerprint, matching_tensors

KINDS = ("hubert", "wav2vec2", "data2vec_audio")
# Fine-tuned models that wrap one of the above: kind -> where the encoder's tensors are.
WRAPPERS = {
    "hubert_ctc": "w2v_encoder.w2v_model.",
    "wav2vec_ctc": "w2v_encoder.w2v_model.",
    "hubert_seq2seq": "encoder.w2v_model.",
    "wav2vec_seq2seq": "encoder.w2v_model.",
}
READABLE = f"fairseq checkpoints of kind {', '.join(KINDS)}, and {', '.join(WRAPPERS)} made from them"
PARTS = ("feature_extractor", "layer_norm", "post_extract_proj", "encoder")
_SHAPE = (
    *("extractor_mode", "conv_feature_layers", "conv_bias", "encoder_layers", "encoder_embed_dim"),
    *("encoder_ffn_embed_dim", "encoder_attention_heads", "activation_fn", "layer_type", "layer_norm_first"),
    *("conv_pos", "conv_pos_groups", "pos_conv_depth", "conv_pos_batch_norm"),
)


@register_encoder
class FairseqEncoder(ConvTransformer):
    """HuBERT, wav2vec 2.0 or data2vec audio of fairseq, for listening only.

    Names of parameters are those of fairseq's models, so that their tensors load by name.

    Args:
        config: fairseq's `Wav2Vec2Config`; its dropouts must be zero.
        conv_layers: ``(channels, kernel, stride)`` of each convolution.
        project: whether there is a projection between convolutions and transformer.
    """

    FOUND_IN = "a fairseq checkpoint of HuBERT, wav2vec 2.0 or data2vec audio"

    def __init__(self, config: Any, conv_layers: Sequence[tuple[int, int, int]], project: bool) -> None:
        from fairseq.models.wav2vec.wav2vec2 import ConvFeatureExtractionModel, TransformerEncoder

        super().__init__(conv_layers)
        channels, self.width = conv_layers[-1][0], int(config.encoder_embed_dim)
        self.feature_extractor = ConvFeatureExtractionModel(
            self.conv_spec, mode=config.extractor_mode, conv_bias=config.conv_bias
        )
        self.layer_norm = nn.LayerNorm(channels)
        self.post_extract_proj = nn.Linear(channels, self.width) if project else None
        self.encoder = TransformerEncoder(config)
        self.depth = len(self.encoder.layers)

    @classmethod
    def recognises(cls, place: EncoderPlace) -> bool:
        return place.names_a_file

    @classmethod
    def read(cls, place: EncoderPlace) -> Self:
        need_fairseq(f"Speech encoder {place}, a file and so read as a fairseq checkpoint,")
        stored = read_checkpoint(place.path)
        network = cls._build(place.path, stored.kind, stored.model)
        tensors = matching_tensors(
            f"{place} says that it is a {stored.kind} checkpoint",
            "give the checkpoint as fairseq saved it",
            stored.tensors,
            network,
            inside=PARTS,
        )
        network.load_state_dict(tensors)
        for part in network.positions():
            if hasattr(part, "weight_g"):
                # Fused while in float32: a norm taken in half precision at every step would be worse and slower.
                nn.utils.remove_weight_norm(part)  # type: ignore[type-var]
        network.kind = stored.kind
        network.sample_rate = int(stored.task.get("sample_rate") or 16000)
        network.normalize = bool(stored.task.get("normalize", stored.model.get("normalize", False)))
        network.fingerprint = fingerprint(tensors)
        return network

    @classmethod
    def _build(cls, path: Path, kind: str, model: Mapping[str, Any]) -> Self:
        """An untrained network of the checkpoint's shape."""
        from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config

        config = Wav2Vec2Config()
        for name in _SHAPE:
            if model.get(name) is not None:
                setattr(config, name, model[name])
        for name in ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"):
            setattr(config, name, 0.0)
        if config.layer_type != "transformer" or model.get("quantize_input"):
            what = "a quantised input" if model.get("quantize_input") else f"{config.layer_type!r} layers"
            raise EncoderError(
                f"{path} has {what}, which is not read here: give an encoder with plain transformer layers."
            )
        try:
            conv_layers = parse_conv_layers(config.conv_feature_layers)
            # data2vec projects even where the widths agree; the others do not.
            project = kind == "data2vec_audio" or conv_layers[-1][0] != int(config.encoder_embed_dim)
            with torch.random.fork_rng(devices=[]):  # reading a file does not change what the trainer draws next
                return cls(config, conv_layers, project)
        except (ValueError, TypeError, AssertionError, RuntimeError) as error:
            raise EncoderError(
                f"{path} describes a {kind} encoder that cannot be built ({error}): check that the file is intact."
            ) from error

    def convolutions(self) -> Iterable[Iterable[Part]]:
        return self.feature_extractor.conv_layers

    def project(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x)
        return x if self.post_extract_proj is None else self.post_extract_proj(x)

    def positions(self) -> Iterable[Part]:
        return _leaves(self.encoder.pos_conv)

    def transform(self, x: Tensor, padded: Tensor | None) -> Iterator[Tensor]:
        if not self.encoder.layer_norm_first:
            x = self.encoder.layer_norm(x)
        # fairseq pads T to `required_seq_len_multiple` here, for speed; padding that is masked changes no
        # value.
        x = x.transpose(0, 1)  # (T, B, W)
        for layer in self.encoder.layers:
            x, _ = layer(x, self_attn_padding_mask=padded, need_weights=False)
            yield x.transpose(0, 1)

    def finish(self, x: Tensor) -> Tensor:
        return self.encoder.layer_norm(x) if self.encoder.layer_norm_first else x

    def transformer_layers(self) -> Any:
        return self.encoder.layers

    def keep_layers(self, count: int) -> None:
        self.encoder.layers = self.encoder.layers[:count]


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """The modules of nested ``nn.Sequential``, in the order in which they run."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _leaves(child)
    else:
        yield module


# -- reading checkpoints -------------------------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """What a fairseq checkpoint says of the encoder in it."""

    kind: str
    model: dict[str, Any]
    """fairseq's options of the model."""
    task: dict[str, Any]
    """fairseq's options of the task."""
    tensors: dict[str, Tensor]
    """Tensors by the names that they have in a pre-trained model."""


def read_checkpoint(path: Path) -> Checkpoint:
    """The encoder's options and tensors, of a pre-trained or fine-tuned checkpoint. Raises `EncoderError`."""
    state = _read_file(path)
    kind, model, task, prefix = _configuration(path, state)
    if not isinstance(state["model"], Mapping):
        raise EncoderError(f"{path}: 'model' is not a dictionary of tensors; give {READABLE}.")
    tensors = {
        name.removeprefix(prefix): value
        for name, value in state["model"].items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }
    return Checkpoint(kind, model, task, tensors)


def _read_file(path: Path) -> Mapping[str, Any]:
    """The dictionary in a checkpoint file, read without running any code from it."""
    if not path.exists():
        raise EncoderError(f"Speech encoder {path} does not exist: check the path.")
    if path.suffix == ".safetensors":
        raise EncoderError(f"{path} is a file of a Hugging Face model: give the folder that it is in, {path.parent}.")
    allow_fairseq_checkpoints()
    archive = zipfile.is_zipfile(path)
    with path.open("rb") as stream:
        start = stream.read(2)
    if not start or (start == b"PK" and not archive):
        raise EncoderError(f"{path} is cut off before its end: copy or download it again.")
    try:
        # Mapped, so that the optimizer state in a training checkpoint is not read; only archives can be.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, OSError) as error:
        text = str(error)
        foreign = re.search(r"GLOBAL (\S+)", text)
        if foreign and "Unsupported" in text:
            raise EncoderError(
                f"{path} holds an object of {foreign[1]}, which could run code when it is loaded, and is "
                f"refused: give {READABLE}."
            ) from None
        raise EncoderError(
            f"{path} is not a checkpoint, or it is damaged: give {READABLE}, or copy the file again."
        ) from error
    if not isinstance(state, Mapping) or "model" not in state or not (state.get("cfg") or state.get("args")):
        if (path.parent / CONFIG).is_file():
            raise EncoderError(
                f"{path} seems part of a Hugging Face model: give the folder that it is in, {path.parent}."
            )
        raise EncoderError(f"{path} is no fairseq checkpoint (it lacks 'model', or 'cfg' and 'args'): give {READABLE}.")
    return state


def _plain(node: Any) -> dict[str, Any]:
    """A configuration as a plain dictionary, from a dictionary, an omegaconf container or a namespace."""
    if isinstance(node, argparse.Namespace):
        return dict(vars(node))
    if OmegaConf.is_config(node):
        # Unresolved: an interpolation in a stranger's file may not look into this process's environment.
        node = OmegaConf.to_container(node, resolve=False)
    return dict(node) if isinstance(node, Mapping) else {}


def _sections(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """``model`` and ``task`` sections of a configuration; an old checkpoint's one flat section is both."""
    whole = _plain(config)
    if "model" not in whole:
        return whole, whole
    return _plain(whole["model"]), _plain(whole.get("task"))


def _configuration(path: Path, state: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any], str]:
    """Kind, model section, task section and the prefix of the encoder's tensors."""
    model, task = _sections(state.get("cfg") or state["args"])
    kind, prefix = _kind(model), ""
    if kind in WRAPPERS:
        prefix = WRAPPERS[kind]
        inner, inner_task = _sections(model.get("w2v_args"))
        if not inner:
            raise EncoderError(
                f"{path} is fine-tuned ({kind}) and does not hold the configuration of the encoder inside it: "
                "give the pre-trained checkpoint that it was made from."
            )
        kind, model, task = _kind(inner), inner, {**inner_task, **task}
    if kind not in KINDS:
        raise EncoderError(f"{path} is a checkpoint of kind {kind!r}, which is not read here: give {READABLE}.")
    return kind, model, task, prefix


def _kind(model: Mapping[str, Any]) -> str:
    return str(model.get("_name") or model.get("arch") or "unknown")


def parse_conv_layers(text: Any) -> list[tuple[int, int, int]]:
    """``[(channels, kernel, stride), ...]`` from fairseq's text for it, such as ``[(512,10,5)] + [(512,3,2)]
    * 4``.

    fairseq gives this text, which comes out of the checkpoint, to ``eval``. Here it is read as lists of
    numbers, sums and products of such, and nothing else.

    Raises:
        ValueError: anything else is in it.
    """

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Tuple):
            return tuple(value(item) for item in node.elts)
        if isinstance(node, ast.List):
            return [value(item) for item in node.elts]
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
                return left + right
            if isinstance(node.op, ast.Mult) and isinstance(left, list) and isinstance(right, int):
                return left * min(right, 100)
        raise ValueError(f"cannot read {ast.unparse(node)!r}")

    try:
        layers = value(ast.parse(str(text), mode="eval").body)
    except (SyntaxError, RecursionError) as error:
        raise ValueError(f"cannot read {str(text)[:80]!r}") from error
    sizes = isinstance(layers, list) and all(
        isinstance(item, tuple) and len(item) == 3 and all(isinstance(number, int) and number > 0 for number in item)
        for item in layers
    )
    if not sizes or not 0 < len(layers) <= 100:
        raise ValueError(f"{str(text)[:80]!r} is no list of (channels, kernel, stride)")
    return layers
