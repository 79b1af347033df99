"""What the LLM makes of the *written* transcript, standing where the speech would stand: no encoder, nothing trained.

`python examples/pretrained_llm/alone.py LLM MANIFEST… --prompt-templates FILE` answers the instructions of training and
generation, greedily, and scores the answers. It says what an adapter could reach that hands the LLM the words
themselves, and so what is worth training: a language that it cannot write from text, it will not write from speech.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import sparqle_fairseq  # noqa: E402

sparqle_fairseq.register()

import torch  # noqa: E402
from results import write_json  # noqa: E402

from sparqle_fairseq.data.manifest import ManifestRow, read_manifest  # noqa: E402
from sparqle_fairseq.data.wordings import PromptTemplates  # noqa: E402
from sparqle_fairseq.errors import SparqleError  # noqa: E402
from sparqle_fairseq.models.llm.llm import load_llm  # noqa: E402
from sparqle_fairseq.scoring.scores import score  # noqa: E402

MOST_TOKENS = 40


def prompt_ids(llm: Any, templates: PromptTemplates, row: ManifestRow, builder: Any) -> list[int]:
    """The prompt of a manifest's row with its transcript in the place of the speech."""
    prompt = builder.encode(templates.instruction(row.task, row.tgt_lang))
    written = llm.tokenizer.encode(row.src_text, add_special_tokens=False)
    return [*prompt.before, *written, *prompt.after]


@torch.no_grad()
def answers(llm: Any, prompts: Sequence[Sequence[int]], batch_size: int) -> Iterator[str]:
    """A greedy answer to each prompt, in order."""
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        width = max(map(len, batch))
        ids = torch.tensor([[llm.end] * (width - len(prompt)) + list(prompt) for prompt in batch])
        seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch])
        output = llm.model.generate(
            input_ids=ids,
            attention_mask=seen,
            max_new_tokens=MOST_TOKENS,
            do_sample=False,
            eos_token_id=llm.ends,
            pad_token_id=llm.end,
        )
        yield from (llm.decode(row[width:].tolist()).strip().replace("\n", " ") for row in output)


def examine(llm: Any, templates: PromptTemplates, manifest: Path, batch_size: int) -> dict[str, Any]:
    found = read_manifest(manifest, require=("src_text",))
    rows = [found.row(i) for i in range(len(found))]
    builder = templates.builder(llm.tokenizer)
    hypotheses = list(answers(llm, [prompt_ids(llm, templates, row, builder) for row in rows], batch_size))
    translated = rows[0].task == "translation"
    references = [str(row.tgt_text if translated else row.src_text) for row in rows]
    scores = score(references, hypotheses, ("bleu", "chrf") if translated else ("wer",))
    print(f"{manifest.stem} ({len(rows)} rows)")
    for name, value in scores.items():
        print(f"  {name} {value.value:.1f} [{value.low:.1f}, {value.high:.1f}]")
    for row, reference, hypothesis in list(zip(rows, references, hypotheses, strict=True))[:4]:
        print(f"  {row.src_text!r}\n    reference {reference!r}\n    answer    {hypothesis!r}", flush=True)
    return {"n": len(rows), **{name: asdict(value) for name, value in scores.items()}}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("llm", help="Hugging Face folder, GGUF file or hub id")
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--prompt-templates", default=HERE / "instructions.yaml", help="YAML file of instructions")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--report", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    try:
        llm, templates = load_llm(args.llm), PromptTemplates.load(args.prompt_templates)
        report = {path.stem: examine(llm, templates, path, args.batch_size) for path in args.manifests}
        if args.report:
            write_json(args.report, report)
    except (SparqleError, OSError) as error:
        sys.exit(f"alone: {error}")


if __name__ == "__main__":
    main()
