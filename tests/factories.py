"""Tiny but real things to test with: fairseq models with random weights, saved as fairseq saves them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

# Strides and kernels of the real models (320 samples a frame, 400 for the first), few channels.
CONV_LAYERS = "[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2"


def _shape(extractor_mode: str, width: int, layers: int, **more: Any) -> dict[str, Any]:
    """Options that the three kinds of encoder have in common. Dropouts stay on, as in real checkpoints."""
    options = {
        "extractor_mode": extractor_mode,
        "encoder_layers": layers,
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": 2 * width,
        "encoder_attention_heads": 4,
        "encoder_layerdrop": 0.5,
        "conv_feature_layers": CONV_LAYERS,
        "conv_pos": 16,
        "conv_pos_groups": 4,
    }
    return {**options, **more}


def _stir(model: nn.Module, seed: int) -> None:
    """Move weights away from fairseq's start, at which a layer does too little for a test to notice."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.dim() < 2:
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
            elif "self_attn" in name or ".fc" in name:
                tensor.mul_(6)


def _save(path: Path | str, model: nn.Module, cfg: dict[str, Any], dictionaries: list[Any]) -> None:
    """Write what fairseq's trainer writes, as far as anyone reads it."""
    checkpoint = {
        "args": None,
        "cfg": cfg,
        "model": model.state_dict(),
        "criterion": None,
        "optimizer_history": [{"num_updates": 1, "optimizer_name": "FairseqAdam"}],
        "task_state": {"dictionaries": dictionaries},
        "extra_state": {"epoch": 1},
        "last_optimizer_state": {"state": {}},
    }
    torch.save(checkpoint, path)


def _plain(config: Any) -> dict[str, Any]:
    """A fairseq dataclass as the dictionary that fairseq stores."""
    return {field.name: getattr(config, field.name) for field in fields(config) if not field.name.startswith("__")}


def _task(name: str, normalize: bool) -> dict[str, Any]:
    """A task section whose paths exist nowhere: nobody who reads the encoder may look at them."""
    return {
        "_name": name,
        "data": "/no/such/folder",
        "label_dir": "/no/such/labels",
        "labels": ["km"],
        "normalize": normalize,
        "sample_rate": 16000,
    }


def save_tiny_hubert(
    path: Path | str,
    extractor_mode: str = "default",
    normalize: bool = False,
    width: int = 32,
    layers: int = 2,
    seed: int = 0,
    **model_options: Any,
) -> nn.Module:
    """Save a HuBERT with random weights as a fairseq checkpoint.

    Args:
        path: where to write it.
        extractor_mode: "default" (group norm, as HuBERT base) or "layer_norm" (as HuBERT large).
        normalize: the checkpoint's ``task.normalize``.
        width: size of a feature vector; a multiple of 4.
        layers: transformer layers.
        seed: of the weights.
        **model_options: any other field of fairseq's ``HubertConfig``.

    Returns:
        fairseq's model with the same weights, in eval mode.
    """
    from fairseq.data import Dictionary
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig

    config = HubertConfig(label_rate=50, **_shape(extractor_mode, width, layers, **model_options))
    labels = Dictionary()
    for label in range(10):
        labels.add_symbol(str(label))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HubertModel(config, HubertPretrainingConfig(), [labels])
    _stir(model, seed)
    cfg = {"model": {**_plain(config), "_name": "hubert"}, "task": _task("hubert_pretraining", normalize)}
    _save(path, model, cfg, [labels])
    return model.eval()


def save_tiny_wav2vec2(
    path: Path | str,
    extractor_mode: str = "default",
    normalize: bool = False,
    width: int = 32,
    layers: int = 2,
    seed: int = 0,
    **model_options: Any,
) -> nn.Module:
    """Save a wav2vec 2.0 (with its quantiser) as a fairseq checkpoint; see :func:`save_tiny_hubert`."""
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model

    shape = _shape(extractor_mode, width, layers, quantize_targets=True, latent_vars=4, final_dim=8)
    config = Wav2Vec2Config(**{**shape, **model_options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Wav2Vec2Model(config)
    _stir(model, seed)
    cfg = {"model": {**_plain(config), "_name": "wav2vec2"}, "task": _task("audio_pretraining", normalize)}
    _save(path, model, cfg, [])
    return model.eval()


def save_tiny_data2vec(
    path: Path | str,
    extractor_mode: str = "layer_norm",
    normalize: bool = False,
    width: int = 32,
    layers: int = 2,
    seed: int = 0,
    **model_options: Any,
) -> nn.Module:
    """Save a data2vec audio model (with its teacher's tensors) as a fairseq checkpoint.

    See :func:`save_tiny_hubert`. Like the real one it stacks positional convolutions.
    """
    from fairseq.examples.data2vec.models.data2vec_audio import Data2VecAudioConfig, Data2VecAudioModel

    shape = _shape(extractor_mode, width, layers, pos_conv_depth=3, conv_pos=15)
    config = Data2VecAudioConfig(**{**shape, **model_options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Data2VecAudioModel(config)
    _stir(model, seed)
    model.set_num_updates(0)  # makes the teacher, which a real checkpoint holds under `_ema`
    cfg = {"model": {**_plain(config), "_name": "data2vec_audio"}, "task": _task("audio_pretraining", normalize)}
    _save(path, model, cfg, [])
    return model.eval()


def save_tiny_ctc(path: Path | str, pretrained: Path | str, old_layout: bool = False) -> None:
    """Save what fine-tuning a pre-trained checkpoint with CTC leaves: the encoder under another prefix.

    Args:
        path: where to write it.
        pretrained: a checkpoint that one of the functions above wrote.
        old_layout: store flat ``argparse.Namespace`` arguments, as fairseq did before it had dataclasses.
    """
    from argparse import Namespace

    from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints

    allow_fairseq_checkpoints()
    inner = torch.load(pretrained, weights_only=True)
    kind = inner["cfg"]["model"]["_name"]
    name = "hubert_ctc" if kind == "hubert" else "wav2vec_ctc"
    head = ("final_proj", "label_embs_concat", "quantizer", "project_q", "_ema")
    model: dict[str, Any] = {
        f"w2v_encoder.w2v_model.{key}": value for key, value in inner["model"].items() if not key.startswith(head)
    }
    model["w2v_encoder.proj.weight"] = torch.zeros(5, 32)
    state: dict[str, Any] = {"args": None, "cfg": None, "model": model}
    if old_layout:
        sections = {**inner["cfg"]["task"], **inner["cfg"]["model"], "arch": kind}
        sections.pop("_name")
        normalize = sections["normalize"]
        state["args"] = Namespace(arch=name, w2v_args=Namespace(**sections), normalize=normalize)
    else:
        state["cfg"] = {"model": {"_name": name, "w2v_args": inner["cfg"]}, "task": inner["cfg"]["task"]}
    torch.save(state, path)


# ---- Hugging Face

HUGGING_FACE = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")


def save_tiny_hugging_face(
    folder: Path | str,
    model_type: str = "hubert",
    large: bool = False,
    normalize: bool | None = None,
    layers: int = 2,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Save a Hugging Face speech encoder with random weights, as `save_pretrained` does.

    Args:
        folder: where to write it.
        model_type: one of `HUGGING_FACE`.
        large: layer norms in the convolutions and before the transformer's layers, as the large models have.
        normalize: `do_normalize` of preprocessor_config.json; None writes no such file.
        layers: transformer layers.
        seed: of the weights.
        **options: any other field of the configuration.

    Returns:
        The model with the same weights, in eval mode.
    """
    import transformers

    name = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM", "data2vec-audio": "Data2VecAudio"}[model_type]
    shape: dict[str, Any] = {
        "conv_dim": [16] * 7,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }
    if model_type == "data2vec-audio":
        shape |= {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
    elif large:
        shape |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    if model_type == "wavlm":
        shape |= {"num_buckets": 32, "max_bucket_distance": 80}
    config = getattr(transformers, f"{name}Config")(**{**shape, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{name}Model")(config)
    _stir_hugging_face(model, seed)
    model.save_pretrained(folder)
    if normalize is not None:
        transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
    return model.eval()


def save_tiny_whisper(
    folder: Path | str, whole: bool = False, layers: int = 2, positions: int = 1500, seed: int = 0
) -> nn.Module:
    """Save a Whisper with random weights: the encoder alone, or in a whole model. Returns the encoder in eval mode.

    `positions` are the frames of a window, 1500 (30 seconds) in every published Whisper.
    """
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    config = WhisperConfig(
        vocab_size=20, num_mel_bins=16, d_model=32, encoder_layers=layers, encoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=64,
        max_source_positions=positions, max_target_positions=16, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        decoder_start_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperModel(config)
    _stir_hugging_face(model, seed)
    (model if whole else model.encoder).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)
    return model.encoder.eval()


def _stir_hugging_face(model: nn.Module, seed: int) -> None:
    """Weights from which a layer does enough for a test to notice."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.dim() < 2 or "rel_attn_embed" in name or "gru_rel_pos_const" in name:
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
            elif any(part in name for part in ("attention", "attn", "dense", "fc1", "fc2", "gru")):
                tensor.mul_(6)
