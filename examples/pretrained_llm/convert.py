"""Turns a GGUF file into a Hugging Face folder, once: dequantised weights, tokenizer, chat template.

`python examples/pretrained_llm/convert.py MODEL.gguf --out DIR`. `--llm MODEL.gguf` works as well, but dequantises in
every command; the folder loads in a second. The numbers are the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import sparqle_fairseq

sparqle_fairseq.register()

import torch  # noqa: E402

from sparqle_fairseq.errors import SparqleError  # noqa: E402
from sparqle_fairseq.files import folder_written_whole  # noqa: E402
from sparqle_fairseq.models.llm.files import LLMFiles  # noqa: E402

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def convert(source: Path, target: Path, dtype: str) -> str:
    """Write the folder `target`, which appears when it is whole; what it holds, in one line."""
    if target.exists():
        raise SparqleError(f"{target} is there already; delete it, or name another with --out")
    files = LLMFiles.find(str(source))
    model = files.read_model()
    embeddings = model.get_input_embeddings()
    tokenizer = files.read_tokenizer(embeddings.num_embeddings)
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise SparqleError(f"{source}: {name} holds numbers that are not finite; fetch the file again")
    # transformers marks a dequantised model as quantised, and refuses to save those.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with folder_written_whole(target) as folder:
        model.to(DTYPES[dtype]).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    config = model.config
    return (
        f"{target}: {config.model_type}, {model.num_parameters():,} parameters, {config.num_hidden_layers} layers, "
        f"width {embeddings.embedding_dim}, {embeddings.num_embeddings} tokens, {dtype}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("gguf", type=Path, help="GGUF file, or a folder that holds one")
    parser.add_argument("--out", type=Path, required=True, help="Hugging Face folder to write")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    args = parser.parse_args(argv)
    try:
        print(convert(args.gguf, args.out, args.dtype))
    except (SparqleError, OSError) as error:
        sys.exit(f"convert: {error}")


if __name__ == "__main__":
    main()
