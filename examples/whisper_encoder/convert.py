"""Turns Whisper in CTranslate2's format into a Hugging Face directory: every tensor, bit for bit, or an error.

`python examples/whisper_encoder/convert.py CT2_DIR --out DIR`. The directory can be given to `--speech-encoder`, and is
also a whole Whisper, for `transformers`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from ct2 import Ct2Error, Ct2Model, read_model
from safetensors.torch import save_file
from torch import Tensor

from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.files import folder_written_whole, read_json

SPECIFICATION = "WhisperSpec"
GELU = 3  # CTranslate2's number of the exact (erf) GELU
TIED = "proj_out.weight"  # the output layer is the input embedding; Hugging Face directories do not repeat it
LONGEST_SECONDS = 30


class Variables:
    """The variables of a model, each of which must be taken once."""

    def __init__(self, model: Ct2Model, where: Path) -> None:
        self._left, self._aliases, self._where = dict(model.variables), dict(model.aliases), where

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def raw(self, name: str) -> Tensor:
        if name not in self._left:
            raise Ct2Error(f"{self._where} has no {name}; is it a Whisper?")
        return self._left.pop(name)

    def take(self, name: str) -> Tensor:
        """A tensor of floats; one stored as integers is divided by its scale, one a row or one for all."""
        value = self.raw(name)
        if value.is_floating_point():
            return value
        scale = self.raw(f"{name}_scale").float()
        if scale.dim() > 1 or (scale.dim() == 1 and (value.dim() != 2 or len(scale) != len(value))):
            raise Ct2Error(
                f"{self._where}: {name} {tuple(value.shape)} has a scale of shape {tuple(scale.shape)}, which is not "
                "known here; take a model that is not quantised"
            )
        return value.float() / (scale[:, None] if scale.dim() else scale)

    def expect(self, name: str, wanted: int) -> None:
        """A setting that has no place in a Hugging Face Whisper must be what that is."""
        value = self.raw(name)
        if int(value) != wanted:
            raise Ct2Error(f"{self._where}: {name} is {int(value)}, a Hugging Face Whisper has {wanted}")

    def alias(self, name: str, other: str) -> None:
        if self._aliases.pop(name, None) != other:
            raise Ct2Error(f"{self._where}: {name} is not {other}, as a Hugging Face Whisper has it")

    def finish(self) -> None:
        if left := [*self._left, *self._aliases]:
            raise Ct2Error(f"{self._where} has {len(left)} tensors without a place: {', '.join(left[:5])}")


def depth(variables: Variables, part: str) -> int:
    """Number of layers of `part`."""
    count = 0
    while f"{part}/layer_{count}/ffn/layer_norm/gamma" in variables:
        count += 1
    return count


def hugging_face_weights(variables: Variables) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Hugging Face name -> tensor, and the options of `WhisperConfig` that the model shows."""
    weights: dict[str, Tensor] = {}

    def norm(here: str, there: str) -> None:
        weights[f"{here}.weight"] = variables.take(f"{there}/gamma")
        weights[f"{here}.bias"] = variables.take(f"{there}/beta")

    def linear(here: str, there: str, *parts: str) -> None:
        """A linear layer, or several that are stored as one."""
        matrix, bias = variables.take(f"{there}/weight"), variables.take(f"{there}/bias")
        names = [f"{here}.{part}" for part in parts] or [here]
        for name, rows, offsets in zip(names, matrix.chunk(len(names)), bias.chunk(len(names)), strict=True):
            weights[f"{name}.weight"] = rows.contiguous()
            if not name.endswith("k_proj"):
                weights[f"{name}.bias"] = offsets.contiguous()
            elif offsets.any():
                raise Ct2Error(f"{there}/bias is not zero for the keys, which have no bias in a Hugging Face Whisper")

    def layer(here: str, there: str, crossed: bool) -> None:
        norm(f"{here}.self_attn_layer_norm", f"{there}/self_attention/layer_norm")
        linear(f"{here}.self_attn", f"{there}/self_attention/linear_0", "q_proj", "k_proj", "v_proj")
        linear(f"{here}.self_attn.out_proj", f"{there}/self_attention/linear_1")
        if crossed:
            norm(f"{here}.encoder_attn_layer_norm", f"{there}/attention/layer_norm")
            linear(f"{here}.encoder_attn.q_proj", f"{there}/attention/linear_0")
            linear(f"{here}.encoder_attn", f"{there}/attention/linear_1", "k_proj", "v_proj")
            linear(f"{here}.encoder_attn.out_proj", f"{there}/attention/linear_2")
        norm(f"{here}.final_layer_norm", f"{there}/ffn/layer_norm")
        linear(f"{here}.fc1", f"{there}/ffn/linear_0")
        linear(f"{here}.fc2", f"{there}/ffn/linear_1")

    layers = {part: depth(variables, part) for part in ("encoder", "decoder")}
    heads = {part: int(variables.raw(f"{part}/num_heads")) for part in layers}
    for part, count in layers.items():
        for i in range(count):
            layer(f"model.{part}.layers.{i}", f"{part}/layer_{i}", crossed=part == "decoder")
        norm(f"model.{part}.layer_norm", f"{part}/layer_norm")
        weights[f"model.{part}.embed_positions.weight"] = variables.take(f"{part}/position_encodings/encodings")
    for conv in ("conv1", "conv2"):
        linear(f"model.encoder.{conv}", f"encoder/{conv}")
    weights["model.decoder.embed_tokens.weight"] = variables.take("decoder/embeddings/weight")
    variables.alias("decoder/projection/weight", "decoder/embeddings/weight")
    for name, wanted in (("activation", GELU), ("pre_norm", 1), ("scale_embeddings", 0), ("alibi", 0)):
        variables.expect(f"decoder/{name}", wanted)
    variables.expect("decoder/start_from_zero_embedding", 0)
    for name in ("alignment_heads", "alignment_layer"):  # of CTranslate2's word alignment, no part of the model
        variables.raw(f"decoder/{name}")
    variables.finish()
    return weights, {
        "vocab_size": len(weights["model.decoder.embed_tokens.weight"]),
        "num_mel_bins": weights["model.encoder.conv1.weight"].size(1),
        "d_model": weights["model.encoder.conv1.weight"].size(0),
        "max_source_positions": len(weights["model.encoder.embed_positions.weight"]),
        "max_target_positions": len(weights["model.decoder.embed_positions.weight"]),
        **{f"{part}_layers": count for part, count in layers.items()},
        **{f"{part}_attention_heads": count for part, count in heads.items()},
        **{f"{part}_ffn_dim": len(weights[f"model.{part}.layers.0.fc1.bias"]) for part in layers},
    }


def check_complete(weights: Mapping[str, Tensor], config: transformers.WhisperConfig) -> None:
    """Every tensor of a `WhisperForConditionalGeneration` of this configuration is there, and no other."""
    with torch.device("meta"):
        wanted = transformers.WhisperForConditionalGeneration(config).state_dict()
    wanted.pop(TIED, None)
    wrong = sorted(wanted.keys() ^ weights.keys())
    wrong += [name for name in wanted.keys() & weights.keys() if wanted[name].shape != weights[name].shape]
    if wrong:
        raise Ct2Error(f"{len(wrong)} tensors are not those of a Hugging Face Whisper: {', '.join(wrong[:5])}")


def special_tokens(tokenizer: Path) -> dict[str, int]:
    """`<|startoftranscript|>` and the like -> id."""
    added = read_json(tokenizer)["added_tokens"]
    return {token["content"]: token["id"] for token in added}


def generation_options(ids: Mapping[str, int], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `transformers` must know to generate text with Whisper, from CTranslate2's config.json."""
    languages = {name: i for name, i in ids.items() if i in set(settings["lang_ids"])}
    return {
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "is_multilingual": True,
        "lang_to_id": languages,
        "task_to_id": {name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")},
        "suppress_tokens": settings["suppress_ids"],
        "begin_suppress_tokens": settings["suppress_ids_begin"],
        "alignment_heads": settings["alignment_heads"],
        "return_timestamps": False,
    }


def convert(source: Path, out: Path) -> dict[str, int]:
    """Write `out` and return the numbers of parameters: `encoder`, `decoder`."""
    ensure_torchaudio()  # transformers' feature extractors import it
    model = read_model(source / "model.bin")
    if model.specification != SPECIFICATION:
        raise Ct2Error(f"{source / 'model.bin'} holds a {model.specification}, not a {SPECIFICATION}; give a Whisper")
    weights, shape = hugging_face_weights(Variables(model, source / "model.bin"))
    types = {tensor.dtype for tensor in weights.values()}
    dtype = types.pop() if len(types) == 1 else torch.float32
    weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
    try:
        settings = read_json(source / "config.json")
        ids = special_tokens(source / "tokenizer.json")
        options = generation_options(ids, settings)
    except (OSError, ValueError, KeyError) as error:
        raise Ct2Error(f"{source}: config.json and tokenizer.json are not Whisper's ({error}); fetch again") from error
    tokens = {name: options[name] for name in options if name.endswith(("bos_token_id", "eos_token_id"))}
    config = transformers.WhisperConfig(
        **shape,
        **tokens,
        pad_token_id=options["pad_token_id"],
        decoder_start_token_id=options["decoder_start_token_id"],
        activation_function="gelu",
        scale_embedding=False,
        architectures=["WhisperForConditionalGeneration"],
        dtype=dtype,
    )
    check_complete(weights, config)

    with folder_written_whole(out) as folder:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(folder)
        transformers.GenerationConfig(**options, max_length=shape["max_target_positions"]).save_pretrained(folder)
        transformers.WhisperFeatureExtractor(
            feature_size=shape["num_mel_bins"], chunk_length=LONGEST_SECONDS
        ).save_pretrained(folder)
        shutil.copy(source / "tokenizer.json", folder)
        shutil.rmtree(out, ignore_errors=True)
    return {
        part: sum(tensor.numel() for name, tensor in weights.items() if name.startswith(f"model.{part}."))
        for part in ("encoder", "decoder")
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of model.bin, config.json and tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="Hugging Face directory to write")
    args = parser.parse_args(argv)
    try:
        counts = convert(args.source, args.out)
    except (Ct2Error, OSError) as error:
        sys.exit(f"convert: {error}")
    print(f"{args.out}: encoder of {counts['encoder']:,} parameters, decoder of {counts['decoder']:,}")


if __name__ == "__main__":
    main()
