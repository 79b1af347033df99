"""Train either stage with transformers' Trainer: python examples/huggingface/train.py CONFIG.yaml [--option value]…"""

from __future__ import annotations

import sys

from sparqle_fairseq.errors import install_hook

install_hook()

import sparqle_fairseq.huggingface  # noqa: E402, F401  (before transformers is imported)
from sparqle_fairseq.huggingface.training import parse_run, train  # noqa: E402


def main(arguments: list[str]) -> None:
    trainer = train(parse_run(arguments))
    if trainer.is_world_process_zero():
        print(f"{trainer.state.global_step} updates; the model is in {trainer.args.output_dir}")
    trainer.end()


if __name__ == "__main__":
    main(sys.argv[1:])
