"""Give a stage-1 checkpoint that was trained on a fairseq encoder the converted one, after hearing that they agree.

    python examples/huggingface/adopt.py STAGE1.pt --speech-encoder FOLDER -o ADOPTED.pt

FOLDER is what `sparqle convert-hubert` wrote. What comes out is for `pretrained_adapter`. Needs fairseq, which reads
the encoder of the training.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sparqle_fairseq.errors import SparqleError, install_hook

install_hook()

import torch  # noqa: E402

import sparqle_fairseq  # noqa: E402
from sparqle_fairseq.files import written_whole  # noqa: E402
from sparqle_fairseq.models.encoders import load_speech_encoder, parse_layer  # noqa: E402
from sparqle_fairseq.models.identity import STATE_NAME, decode_identity, encode_identity  # noqa: E402
from sparqle_fairseq.models.stage2.start import read_adapter  # noqa: E402
from sparqle_fairseq.tools.exchange.export_hf import check_same  # noqa: E402


def adopt(checkpoint: Path, encoder: str, output: Path) -> None:
    """Write `output`. Raises `SparqleError` where the two encoders give other features, or `output` exists."""
    if output.exists():
        raise SparqleError(f"{output} exists already; give another name with --output, or move it away")
    sparqle_fairseq.register()
    state = read_adapter(str(checkpoint))
    options = dict(state["cfg"])
    layer = parse_layer(str(options["encoder_layer"]))
    identity = decode_identity(state["model"][STATE_NAME])
    of_training = load_speech_encoder(identity["speech encoder"]["path"], layer=layer)
    given = load_speech_encoder(encoder, layer=layer)
    check_same(of_training, given, encoder)
    identity["speech encoder"] = given.identity
    tensors = {**state["model"], STATE_NAME: encode_identity(identity)}
    with written_whole(output) as file:
        torch.save({"model": tensors, "cfg": {"model": {**options, "speech_encoder": encoder}}}, file)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="of stage 1")
    parser.add_argument("--speech-encoder", required=True, help="the converted encoder")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    adopt(args.checkpoint, args.speech_encoder, args.output)


if __name__ == "__main__":
    main(sys.argv[1:])
