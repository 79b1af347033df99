"""HuBERT between fairseq checkpoints and Hugging Face folders, both directions: the same tensors under other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from sparqle_fairseq.files import folder_written_whole, written_whole
from sparqle_fairseq.models.encoders import EncoderError
from sparqle_fairseq.models.encoders.fairseq_checkpoint import parse_conv_layers, read_checkpoint
from sparqle_fairseq.models.encoders.hugging_face import build_model, modern_name
from sparqle_fairseq.models.encoders.place import EncoderPlace
from sparqle_fairseq.models.encoders.registry import read_network

# What fairseq's layers have of their own, and what they are called in Hugging Face's.
_LAYER = {
    **{f"self_attn.{part}_proj": f"attention.{part}_proj" for part in ("k", "v", "q", "out")},
    "self_attn_layer_norm": "layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
    "final_layer_norm": "final_layer_norm",
}
_PREFIX = "hubert."  # of a Hugging Face model made from a HuBERT
_NORM_EPS = 1e-5
_FINAL_WIDTH = 256


@dataclass(frozen=True)
class Shape:
    """What decides a HuBERT's names, sizes and results."""

    conv_layers: tuple[tuple[int, int, int], ...]  # channels, kernel, stride
    layer_norms: bool  # a layer norm after every convolution, as in large; else a group norm after the first
    conv_bias: bool
    layers: int
    width: int
    ffn_width: int
    heads: int
    pre_norm: bool
    activation: str
    conv_pos: int
    conv_pos_groups: int
    conv_pos_batch_norm: bool

    @property
    def projects(self) -> bool:
        """Whether fairseq has a projection after the convolutions; Hugging Face always has."""
        return self.conv_layers[-1][0] != self.width


def name_pairs(shape: Shape) -> dict[str, str]:
    """fairseq's name -> Hugging Face's name, of every tensor of a HuBERT without its pre-training heads."""
    affine = ("weight", "bias")
    pairs: dict[str, str] = {"mask_emb": "masked_spec_embed"}

    def add(ours: str, theirs: str, leaves: tuple[str, ...] = affine) -> None:
        pairs.update({f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in leaves})

    for i in range(len(shape.conv_layers)):
        conv = f"feature_extractor.conv_layers.{i}"
        add(f"{conv}.0", f"{conv}.conv", affine if shape.conv_bias else ("weight",))
        if shape.layer_norms:
            add(f"{conv}.2.1", f"{conv}.layer_norm")
        elif i == 0:
            add(f"{conv}.2", f"{conv}.layer_norm")
    add("layer_norm", "feature_projection.layer_norm")
    if shape.projects:
        add("post_extract_proj", "feature_projection.projection")
    positions = "encoder.pos_conv_embed"
    if shape.conv_pos_batch_norm:
        add("encoder.pos_conv.0", f"{positions}.batch_norm", (*affine, "running_mean", "running_var"))
        pairs["encoder.pos_conv.0.num_batches_tracked"] = f"{positions}.batch_norm.num_batches_tracked"
        add("encoder.pos_conv.1", f"{positions}.conv")
    else:
        weight = f"{positions}.conv.parametrizations.weight"
        pairs |= {"encoder.pos_conv.0.weight_g": f"{weight}.original0"}
        pairs |= {"encoder.pos_conv.0.weight_v": f"{weight}.original1"}
        add("encoder.pos_conv.0", f"{positions}.conv", ("bias",))
    add("encoder.layer_norm", "encoder.layer_norm")
    for i in range(shape.layers):
        for ours, theirs in _LAYER.items():
            add(f"encoder.layers.{i}.{ours}", f"encoder.layers.{i}.{theirs}")
    return pairs


# ---- shapes


def shape_of_fairseq(model: Mapping[str, Any]) -> Shape:
    """The shape in fairseq's options of a HuBERT; what they lack is fairseq's default. Raises `ValueError`."""
    from fairseq.models.hubert.hubert import HubertConfig

    given = {name: value for name, value in model.items() if value is not None}
    if given.get("layer_type", "transformer") != "transformer" or int(given.get("pos_conv_depth", 1)) > 1:
        raise ValueError("it has no plain transformer layers or stacked positions")
    option = {**_defaults(HubertConfig), **given}
    return Shape(
        conv_layers=tuple(parse_conv_layers(option["conv_feature_layers"])),
        layer_norms=str(option["extractor_mode"]) == "layer_norm",
        conv_bias=bool(option["conv_bias"]),
        layers=int(option["encoder_layers"]),
        width=int(option["encoder_embed_dim"]),
        ffn_width=int(option["encoder_ffn_embed_dim"]),
        heads=int(option["encoder_attention_heads"]),
        pre_norm=bool(option["layer_norm_first"]),
        activation=str(option["activation_fn"]),
        conv_pos=int(option["conv_pos"]),
        conv_pos_groups=int(option["conv_pos_groups"]),
        conv_pos_batch_norm=bool(option["conv_pos_batch_norm"]),
    )


def shape_of_hugging_face(config: Any) -> Shape:
    """The shape in a `transformers.HubertConfig`. Raises `ValueError` where fairseq has no such HuBERT."""
    missing = {
        "feat_proj_layer_norm": (True, config.feat_proj_layer_norm),
        "feat_extract_activation": ("gelu", config.feat_extract_activation),
        "layer_norm_eps": (_NORM_EPS, config.layer_norm_eps),
        "adapter_attn_dim": (None, getattr(config, "adapter_attn_dim", None)),
    }
    for name, (needed, found) in missing.items():
        if found != needed:
            raise ValueError(f"its {name} is {found}, and fairseq's HuBERT has {needed}")
    if config.hidden_act not in ("gelu", "relu"):
        raise ValueError(f"its hidden_act is {config.hidden_act}, and fairseq's HuBERT has gelu or relu")
    return Shape(
        conv_layers=tuple(zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)),
        layer_norms=config.feat_extract_norm == "layer",
        conv_bias=config.conv_bias,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        ffn_width=config.intermediate_size,
        heads=config.num_attention_heads,
        pre_norm=config.do_stable_layer_norm,
        activation=config.hidden_act,
        conv_pos=config.num_conv_pos_embeddings,
        conv_pos_groups=config.num_conv_pos_embedding_groups,
        conv_pos_batch_norm=config.conv_pos_batch_norm,
    )


def hugging_face_config(shape: Shape, option: Mapping[str, Any] | None = None) -> Any:
    """A `transformers.HubertConfig` of a shape, with the dropouts in fairseq's options."""
    from transformers import HubertConfig

    option = option or {}
    channels, kernels, strides = zip(*shape.conv_layers, strict=True)
    dropouts: dict[str, Any] = {
        "hidden_dropout": option.get("dropout"),
        "attention_dropout": option.get("attention_dropout"),
        "activation_dropout": option.get("activation_dropout"),
        "feat_proj_dropout": option.get("dropout_input"),
        "layerdrop": option.get("encoder_layerdrop"),
    }
    return HubertConfig(
        conv_dim=list(channels),
        conv_kernel=list(kernels),
        conv_stride=list(strides),
        feat_extract_norm="layer" if shape.layer_norms else "group",
        conv_bias=shape.conv_bias,
        num_hidden_layers=shape.layers,
        hidden_size=shape.width,
        intermediate_size=shape.ffn_width,
        num_attention_heads=shape.heads,
        do_stable_layer_norm=shape.pre_norm,
        hidden_act=shape.activation,
        num_conv_pos_embeddings=shape.conv_pos,
        num_conv_pos_embedding_groups=shape.conv_pos_groups,
        conv_pos_batch_norm=shape.conv_pos_batch_norm,
        **{name: value for name, value in dropouts.items() if value is not None},
    )


def fairseq_options(shape: Shape, dropouts: Any = None) -> dict[str, Any]:
    """fairseq's options of a shape, with the dropouts of a `transformers.HubertConfig`."""
    from fairseq.models.hubert.hubert import HubertConfig

    option = {
        **_defaults(HubertConfig),
        "_name": "hubert",
        "conv_feature_layers": repr(list(shape.conv_layers)),
        "extractor_mode": "layer_norm" if shape.layer_norms else "default",
        "conv_bias": shape.conv_bias,
        "encoder_layers": shape.layers,
        "encoder_embed_dim": shape.width,
        "encoder_ffn_embed_dim": shape.ffn_width,
        "encoder_attention_heads": shape.heads,
        "layer_norm_first": shape.pre_norm,
        "activation_fn": shape.activation,
        "conv_pos": shape.conv_pos,
        "conv_pos_groups": shape.conv_pos_groups,
        "conv_pos_batch_norm": shape.conv_pos_batch_norm,
        "final_dim": _FINAL_WIDTH,
    }
    if dropouts is not None:
        option |= {
            "dropout": dropouts.hidden_dropout,
            "attention_dropout": dropouts.attention_dropout,
            "activation_dropout": dropouts.activation_dropout,
            "dropout_input": dropouts.feat_proj_dropout,
            "encoder_layerdrop": dropouts.layerdrop,
        }
    return option


def _defaults(config: Any) -> dict[str, Any]:
    """The fields of a fairseq dataclass with their defaults, as a checkpoint stores them."""
    found = config()
    values = {item.name: getattr(found, item.name) for item in fields(config) if not item.name.startswith("__")}
    # An interpolation would be resolved against options that a converted checkpoint does not have.
    return {
        name: None if isinstance(value, str) and value.startswith("${") else value for name, value in values.items()
    }


def _hop(shape: Shape) -> int:
    hop = 1
    for _, _, stride in shape.conv_layers:
        hop *= stride
    return hop


# ---- conversion


def convert_hubert(source: str | Path, target: str | Path) -> str:
    """Convert `source` into `target`; which direction, the source tells. Returns the kind of what was written.

    Args:
        source: a fairseq checkpoint of HuBERT (pre-trained, or the encoder in a fine-tuned one), or a Hugging Face
            folder or hub id of one.
        target: the folder, or the checkpoint, to write; it appears when it is whole.

    Raises:
        EncoderError: the source is no HuBERT, or none that the other side has; the target exists already.
    """
    target = Path(target)
    if target.exists():
        raise EncoderError(f"{target} exists already: give another name, or remove it first.")
    # Whether the source is whole and fits its own configuration is looked at where encoders are read.
    network = read_network(source)
    place = EncoderPlace(source)
    if network.kind not in ("hubert", "hf_hubert"):
        raise EncoderError(
            f"{source} holds a {network.kind.removeprefix('hf_')}, not a HuBERT: give a fairseq checkpoint of "
            "one, or a Hugging Face folder or hub id."
        )
    if network.kind == "hubert":
        with folder_written_whole(target) as folder:
            _write_hugging_face(place, folder, network.sample_rate, network.normalize)
        return "Hugging Face folder"
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as file:
        _write_fairseq(place, file, network.sample_rate, network.normalize)
    return "fairseq checkpoint"


def _write_hugging_face(place: EncoderPlace, folder: Path, sample_rate: int, normalize: bool) -> None:
    from transformers import HubertModel, Wav2Vec2FeatureExtractor

    stored = read_checkpoint(place.path)
    try:
        shape = shape_of_fairseq(stored.model)
    except ValueError as error:
        raise EncoderError(f"{place} cannot be converted: {error}; give a HuBERT as fairseq trains it.") from error
    # The mask of pre-training plays no part in listening, and may have been left out of a fine-tuned model.
    tensors = renamed({"mask_emb": torch.zeros(shape.width), **stored.tensors}, name_pairs(shape))
    if not shape.projects:  # Hugging Face always projects: by nothing
        dtype = tensors["encoder.layer_norm.weight"].dtype
        tensors["feature_projection.projection.weight"] = torch.eye(shape.width, dtype=dtype)
        tensors["feature_projection.projection.bias"] = torch.zeros(shape.width, dtype=dtype)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = HubertModel(hugging_face_config(shape, stored.model))
    model.load_state_dict(tensors, strict=True, assign=True)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        sampling_rate=sample_rate, do_normalize=normalize, return_attention_mask=shape.layer_norms
    ).save_pretrained(folder)


def _write_fairseq(place: EncoderPlace, file: IO[bytes], sample_rate: int, normalize: bool) -> None:
    from fairseq.data import Dictionary
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig

    config = build_model(place).config
    try:
        shape = shape_of_hugging_face(config)
    except ValueError as error:
        raise EncoderError(f"{place} cannot be converted: {error}; use it as it is.") from error
    stored = {modern_name(name.removeprefix(_PREFIX)): tensor for name, tensor in place.tensors(_everything).items()}
    if not shape.projects:
        _check_identity_projection(stored, shape, place)
    theirs = {other: name for name, other in name_pairs(shape).items()}
    tensors = renamed({"masked_spec_embed": torch.zeros(shape.width), **stored}, theirs)
    # fairseq wants heads of pre-training, which Hugging Face does not keep: zeros.
    labels = Dictionary()
    tensors["final_proj.weight"] = torch.zeros(_FINAL_WIDTH, shape.width)
    tensors["final_proj.bias"] = torch.zeros(_FINAL_WIDTH)
    tensors["label_embs_concat"] = torch.zeros(len(labels), _FINAL_WIDTH)
    options = {**fairseq_options(shape, config), "label_rate": sample_rate / _hop(shape)}
    task = {
        **_defaults(HubertPretrainingConfig),
        "_name": "hubert_pretraining",
        "data": "",
        "labels": ["km"],
        "label_rate": options["label_rate"],
        "sample_rate": sample_rate,
        "normalize": normalize,
    }
    checkpoint = {
        "args": None,
        "cfg": {"model": options, "task": task},
        "model": tensors,
        "criterion": None,
        "optimizer_history": [{"num_updates": 0, "optimizer_name": "none", "lr_scheduler_state": {}}],
        "task_state": {"dictionaries": [labels]},
        "extra_state": {"train_iterator": {"epoch": 0}},
        "last_optimizer_state": None,
    }
    torch.save(checkpoint, file)


def _everything(_: str) -> bool:
    return True


def renamed(stored: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of `names` under their other names."""
    return {other: stored[name].contiguous() for name, other in names.items()}


def _check_identity_projection(stored: dict[str, Tensor], shape: Shape, place: EncoderPlace) -> None:
    weight = stored.get("feature_projection.projection.weight")
    bias = stored.get("feature_projection.projection.bias")
    if weight is None or bias is None or bias.any() or not torch.equal(weight.float(), torch.eye(shape.width)):
        raise EncoderError(
            f"{place} cannot be converted: it projects {shape.width} channels to as many, where fairseq's HuBERT has "
            "no projection; use it as it is."
        )
