"""Frozen speech encoders read from fairseq checkpoints: HuBERT, wav2vec 2.0 and data2vec audio.

The three share one shape (convolutions, projection, convolutional positions, transformer), so one class runs
them all. It is put together from fairseq's layers and the checkpoint's own configuration, without the
pre-training task around them: dictionaries, label embeddings, quantisers and teachers are not needed to
listen.

fairseq's models let an utterance's features depend on the batch it is in: the group norm of the first
convolution takes its statistics over the padding too, HuBERT rounds the number of valid frames, and stacked
positional convolutions read what earlier ones wrote into the padding. Here features depend on the utterance
alone.
"""

import argparse
import ast
import hashlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from fairseq.models.wav2vec.wav2vec2 import ConvFeatureExtractionModel, TransformerEncoder, Wav2Vec2Config
from omegaconf import OmegaConf
from torch import Tensor, nn

from sparqle_fairseq.compat import allow_fairseq_checkpoints
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.frozen import Frozen

KINDS = ("hubert", "wav2vec2", "data2vec_audio")
# Fine-tuned models that wrap one of the above: kind -> where the encoder's tensors are.
WRAPPERS = {
    "hubert_ctc": "w2v_encoder.w2v_model.",
    "wav2vec_ctc": "w2v_encoder.w2v_model.",
    "hubert_seq2seq": "encoder.w2v_model.",
    "wav2vec_seq2seq": "encoder.w2v_model.",
}
READABLE = f"fairseq checkpoints of kind {', '.join(KINDS)}, and {', '.join(WRAPPERS)} made from them"
Layer = Literal["last"] | int


class EncoderError(SparqleError):
    """A speech encoder cannot be read or used; the message is one sentence that says what to do."""


class SpeechFeatures(NamedTuple):
    """What a speech encoder hears in a batch."""

    values: Tensor
    """(B, T, W) features, zero at padding."""
    padding_mask: Tensor
    """(B, T) bool, True at padding."""


# -- lengths -------------------------------------------------------------------------------------------------


def conv_length(length: int, layers: Sequence[tuple[int, int, int]]) -> int:
    """Frames that unpadded convolutions ``(channels, kernel, stride)`` make of ``length`` samples, 0 at least."""
    for _, kernel, stride in layers:
        length = max(0, (length - kernel) // stride + 1)
    return length


def receptive_field(layers: Sequence[tuple[int, int, int]]) -> int:
    """Samples that one frame sees, the fewest that give a frame."""
    field, hop = 1, 1
    for _, kernel, stride in layers:
        field += (kernel - 1) * hop
        hop *= stride
    return field


def _utterance_lengths(source: Tensor, padding_mask: Tensor | None) -> list[int]:
    """Valid samples of each utterance of a right-padded batch."""
    batch, samples = source.shape
    if padding_mask is None:
        return [samples] * batch
    valid = samples - padding_mask.sum(dim=1)
    first_padded = torch.where(padding_mask.any(dim=1), padding_mask.int().argmax(dim=1), samples)
    lengths, ends = torch.stack([valid, first_padded]).tolist()  # one transfer from the device, not two
    if lengths != ends:
        raise EncoderError(
            "padding_mask has padding before the end of an utterance; speech is to be padded on the right."
        )
    return lengths


def mask_of_lengths(lengths: Sequence[int], size: int, device: torch.device) -> Tensor:
    """(B, size) bool, True from each length on."""
    ends = torch.tensor(lengths, device=device).unsqueeze(1)
    return torch.arange(size, device=device).unsqueeze(0) >= ends


# -- the network ---------------------------------------------------------------------------------------------


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """The modules of nested ``nn.Sequential``, in the order in which they run."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _leaves(child)
    else:
        yield module


class Wav2VecNetwork(nn.Module):
    """Convolutions, projection and transformer of HuBERT, wav2vec 2.0 and data2vec, for listening only.

    Names of parameters are those of fairseq's models, so that their tensors load by name.

    Args:
        config: fairseq's configuration; its dropouts must be zero.
        conv_layers: ``(channels, kernel, stride)`` of each convolution.
        project: whether there is a projection between convolutions and transformer.
    """

    def __init__(self, config: Wav2Vec2Config, conv_layers: Sequence[tuple[int, int, int]], project: bool) -> None:
        super().__init__()
        self.conv_spec = list(conv_layers)
        channels, width = conv_layers[-1][0], config.encoder_embed_dim
        self.feature_extractor = ConvFeatureExtractionModel(
            self.conv_spec, mode=config.extractor_mode, conv_bias=config.conv_bias
        )
        self.layer_norm = nn.LayerNorm(channels)
        self.post_extract_proj = nn.Linear(channels, width) if project else None
        self.encoder = TransformerEncoder(config)
        self.final_norm = bool(config.layer_norm_first)

    def keep_layers(self, count: int) -> None:
        """Keep the first ``count`` transformer layers; what comes out is the last one's output, as it is."""
        self.encoder.layers = self.encoder.layers[:count]
        self.final_norm = False  # fairseq norms what leaves the whole stack, never a layer in its middle

    def forward(self, source: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Features (B, T, W) of a right-padded batch (B, S), and each utterance's number of frames.

        Args:
            source: (B, S) waveform.
            lengths: valid samples of each utterance, at least the receptive field.
        """
        frames = [conv_length(length, self.conv_spec) for length in lengths]
        x = self._convolve(source, lengths).transpose(1, 2)  # (B, T, C)
        x = self.layer_norm(x)
        if self.post_extract_proj is not None:
            x = self.post_extract_proj(x)  # (B, T, W)
        padded = mask_of_lengths(frames, x.size(1), x.device)  # (B, T)
        x = x.masked_fill(padded.unsqueeze(-1), 0)
        x = x + self._positions(x, padded)
        if not self.encoder.layer_norm_first:
            x = self.encoder.layer_norm(x)
        # fairseq pads T to `required_seq_len_multiple` here, for speed; padding that is masked changes no
        # value.
        key_padding_mask = padded if min(frames) < x.size(1) else None
        x = x.transpose(0, 1)  # (T, B, W)
        for layer in self.encoder.layers:
            x, _ = layer(x, self_attn_padding_mask=key_padding_mask, need_weights=False)
        x = x.transpose(0, 1)
        if self.final_norm:
            x = self.encoder.layer_norm(x)
        return x.masked_fill(padded.unsqueeze(-1), 0), frames

    def _convolve(self, source: Tensor, lengths: Sequence[int]) -> Tensor:
        """(B, S) waveform -> (B, C, T); frames within an utterance's length depend on its own samples."""
        x = source.unsqueeze(1)
        for index, block in enumerate(self.feature_extractor.conv_layers):
            for part in block:
                if isinstance(part, nn.GroupNorm):
                    # Its statistics run over time: each utterance is normed over its own frames. Later
                    # convolutions and norms see no further than a frame's own samples.
                    for item, length in enumerate(lengths):
                        end = conv_length(length, self.conv_spec[: index + 1])
                        x[item, :, :end] = part(x[item : item + 1, :, :end])[0]
                else:
                    x = part(x)
        return x

    def _positions(self, x: Tensor, padded: Tensor) -> Tensor:
        """Convolutional position embedding (B, T, W), with zeros at padding before every convolution."""
        x = x.transpose(1, 2)  # (B, W, T)
        for part in _leaves(self.encoder.pos_conv):
            if isinstance(part, nn.Conv1d):
                x = x.masked_fill(padded.unsqueeze(1), 0)
            x = part(x)
        return x.transpose(1, 2)


class SpeechEncoder(nn.Module):
    """A frozen speech encoder: waveform in, features out, nothing to learn and nothing to save.

    Its network is in a :class:`Frozen` box: always in eval mode, never in a checkpoint, in its own precision.

    Attributes:
        width: W, size of a feature vector.
        sample_rate: Hz of the waveform that it expects.
        frame_rate: feature frames per second.
        normalize: whether it expects each waveform normalised to zero mean and unit variance; not done here.
        min_samples: fewest samples that give a frame.
        identity: what makes it itself (kind, width, layer, dtype, fingerprint), for checkpoints made with it.
    """

    def __init__(
        self,
        network: Wav2VecNetwork,
        *,
        path: str,
        kind: str,
        width: int,
        sample_rate: int,
        normalize: bool,
        layer: Layer,
        dtype: torch.dtype,
        fingerprint: str,
    ) -> None:
        super().__init__()
        self.frozen = Frozen(network, dtype)
        self.width = width
        self.sample_rate = sample_rate
        hop = 1
        for _, _, stride in network.conv_spec:
            hop *= stride
        self.frame_rate = sample_rate / hop
        self.normalize = normalize
        self.min_samples = receptive_field(network.conv_spec)
        self.identity: dict[str, str | int] = {
            "path": path,
            "kind": kind,
            "width": width,
            "layer": layer,
            "dtype": str(dtype).removeprefix("torch."),
            "fingerprint": fingerprint,
        }

    @torch.no_grad()
    def forward(self, source: Tensor, padding_mask: Tensor | None = None) -> SpeechFeatures:
        """Features of a right-padded batch.

        Args:
            source: (B, S) waveform at ``sample_rate``, normalised where ``normalize`` says so; any float
                dtype.
            padding_mask: (B, S) bool, True at padding; None where nothing is padded.

        Returns:
            Features in the encoder's own dtype, whatever autocast says. T is that of the longest utterance.

        Raises:
            EncoderError: an utterance is too short for a single frame, or is not padded on the right.
        """
        lengths = _utterance_lengths(source, padding_mask)
        for item, length in enumerate(lengths):
            if length < self.min_samples:
                raise EncoderError(
                    f"Utterance {item + 1} of a batch of {len(lengths)} has {length} samples, and the speech "
                    f"encoder needs at least {self.min_samples} (at {self.sample_rate} Hz): leave such short "
                    "audio out of the manifest."
                )
        with torch.autocast(source.device.type, enabled=False):
            # A collater may pad beyond the longest utterance; that padding is not worth a computation.
            trimmed = source[:, : max(lengths)].to(self.frozen.dtype)
            values, frames = self.frozen(trimmed, lengths)
        return SpeechFeatures(values, mask_of_lengths(frames, values.size(1), values.device))


# -- reading checkpoints -------------------------------------------------------------------------------------


def parse_layer(text: str) -> Layer:
    """The layer that an option names: "last", or a number from 1. Raises `EncoderError`."""
    if text == "last":
        return "last"
    if not text.isdigit():
        raise EncoderError(f"--encoder-layer {text} is neither 'last' nor a number from 1")
    return int(text)


def load_speech_encoder(
    path: str | Path, *, layer: Layer = "last", dtype: torch.dtype = torch.float32
) -> SpeechEncoder:
    """Read a speech encoder from a fairseq checkpoint.

    Args:
        path: a HuBERT, wav2vec 2.0 or data2vec audio checkpoint, pre-trained or fine-tuned with CTC. Only its
            encoder and its own configuration are used; paths stored in it are not looked at.
        layer: "last" for what leaves the encoder, or 1 to n for what leaves that transformer layer (as in
            fairseq, without the norm that pre-norm models put after the last).
        dtype: precision to run in; the trainer's does not change it.

    Raises:
        EncoderError: the file is missing, damaged, of another kind or not what it says it is, or has no such
            layer.
    """
    path = Path(path)
    state = _read_checkpoint(path)
    kind, model, task, prefix = _configuration(path, state)
    stored = state["model"]
    if not isinstance(stored, Mapping):
        raise EncoderError(f"{path}: 'model' is not a dictionary of tensors; give {READABLE}.")
    encoder = {
        name.removeprefix(prefix): value
        for name, value in stored.items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }
    network, width = _build_network(path, kind, model)
    tensors = _matching_tensors(path, kind, encoder, network)
    network.load_state_dict(tensors)
    for part in _leaves(network.encoder.pos_conv):
        if hasattr(part, "weight_g"):
            # Fused while in float32: a norm taken in half precision at every step would be worse and slower.
            nn.utils.remove_weight_norm(part)
    count = len(network.encoder.layers)
    if layer != "last":
        if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= count:
            raise EncoderError(f"{path} has no layer {layer!r}: give 'last' or a number from 1 to {count}.")
        network.keep_layers(layer)
    return SpeechEncoder(
        network,
        path=str(path),
        kind=kind,
        width=width,
        sample_rate=int(task.get("sample_rate") or 16000),
        normalize=bool(task.get("normalize", model.get("normalize", False))),
        layer=layer,
        dtype=dtype,
        fingerprint=fingerprint(tensors),
    )


def _read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The dictionary in a checkpoint file, read without running any code from it."""
    if not path.exists():
        raise EncoderError(f"Speech encoder {path} does not exist: check the path.")
    if not path.is_file():
        raise EncoderError(f"Speech encoder {path} is not a file: give the path of a checkpoint (.pt).")
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


def _build_network(path: Path, kind: str, model: Mapping[str, Any]) -> tuple[Wav2VecNetwork, int]:
    """An untrained network of the checkpoint's shape, and its width."""
    config = Wav2Vec2Config()
    shape = (
        *("extractor_mode", "conv_feature_layers", "conv_bias", "encoder_layers", "encoder_embed_dim"),
        *("encoder_ffn_embed_dim", "encoder_attention_heads", "activation_fn", "layer_type", "layer_norm_first"),
        *("conv_pos", "conv_pos_groups", "pos_conv_depth", "conv_pos_batch_norm"),
    )
    for name in shape:
        if model.get(name) is not None:
            setattr(config, name, model[name])
    for name in ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"):
        setattr(config, name, 0.0)
    if config.layer_type != "transformer" or model.get("quantize_input"):
        what = "a quantised input" if model.get("quantize_input") else f"{config.layer_type!r} layers"
        raise EncoderError(f"{path} has {what}, which is not read here: give an encoder with plain transformer layers.")
    try:
        conv_layers = parse_conv_layers(config.conv_feature_layers)
        width = int(config.encoder_embed_dim)
        # data2vec projects even where the widths agree; the others do not.
        project = kind == "data2vec_audio" or conv_layers[-1][0] != width
        with torch.random.fork_rng(devices=[]):  # reading a file does not change what the trainer draws next
            return Wav2VecNetwork(config, conv_layers, project), width
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        raise EncoderError(
            f"{path} describes a {kind} encoder that cannot be built ({error}): check that the file is intact."
        ) from error


def _matching_tensors(
    path: Path, kind: str, stored: Mapping[str, Tensor], network: Wav2VecNetwork
) -> dict[str, Tensor]:
    """The stored tensors of the network, each found and of the right shape.

    Tensors of the file that belong to pre-training (projections, label embeddings, quantisers) are left out,
    but inside the encoder nothing may be missing or left over.
    """
    wanted = network.state_dict()
    parts = tuple(f"{name}." for name in ("feature_extractor", "layer_norm", "post_extract_proj", "encoder"))
    problems = [f"{name} is missing" for name in wanted if name not in stored]
    problems += [
        f"{name} has shape {tuple(stored[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in stored and stored[name].shape != tensor.shape
    ]
    problems += [f"{name} is not expected" for name in stored if name.startswith(parts) and name not in wanted]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise EncoderError(
            f"{path} says that it is a {kind} checkpoint, but its tensors do not fit its configuration: "
            f"{', '.join(problems[:8])}{more}; give the checkpoint as fairseq saved it."
        )
    return {name: stored[name] for name in wanted}


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes, types and up to 256 evenly spaced values of each tensor, as they are stored.

    Two files with the same encoder give the same, whatever else is in them; further training gives another.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 256)].contiguous().cpu()
        digest.update(f"{name} {tuple(tensors[name].shape)} {sample.dtype}\n".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
