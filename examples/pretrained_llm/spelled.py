"""What stage 1 (`llm-ctc`) hands to the LLM, spelled: the LLM's tokens that the projected queries lie nearest to.

`python examples/pretrained_llm/spelled.py CHECKPOINT MANIFEST…` scores them as transcripts, without running the LLM:
how much of the words is in the queries before stage 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import sparqle_fairseq  # noqa: E402

sparqle_fairseq.register()

import torch  # noqa: E402
from results import write_json  # noqa: E402

from sparqle_fairseq.data.dataset import SpeechDataset  # noqa: E402
from sparqle_fairseq.errors import SparqleError  # noqa: E402
from sparqle_fairseq.models.qformer.compression import BLANK  # noqa: E402
from sparqle_fairseq.scoring.scores import score  # noqa: E402
from sparqle_fairseq.tasks.loading import Trained, load_rows, load_trained  # noqa: E402


def collapse(labels: Sequence[int]) -> list[int]:
    """Token ids of a row of labels as CTC reads them: neighbours that are equal are one, blanks nothing."""
    return [label - 1 for label, _ in groupby(labels) if label != BLANK]


@torch.no_grad()
def spell(trained: Trained, dataset: SpeechDataset, batch_size: int) -> Iterator[tuple[int, str]]:
    """Number and text of each row."""
    model, device = trained.model, trained.device
    adapter = model.adapter
    order = dataset.ordered_indices().tolist()
    for start in range(0, len(order), batch_size):
        sample = dataset.collater([dataset[i] for i in order[start : start + batch_size]])
        net_input = sample["net_input"]
        speech = model.encode_speech(net_input["source"].to(device), net_input["padding_mask"].to(device))
        queries = adapter.reader(speech.values, speech.padding_mask)
        labels = adapter.llm_space.labels(adapter.projector(queries.hidden))  # (B, Q)
        if queries.padding_mask is not None:
            labels = labels.masked_fill(queries.padding_mask, BLANK)
        for row, line in zip(sample["id"].tolist(), labels.tolist(), strict=True):
            yield row, model.llm_tokenizer.decode(collapse(line)).strip()


def examine(trained: Trained, manifest: Path, batch_size: int) -> dict[str, Any]:
    dataset = load_rows(trained, manifest)
    spelled = dict(spell(trained, dataset, batch_size))
    rows = sorted(spelled)
    references = [str(dataset.row(i).src_text) for i in rows]
    found = score(references, [spelled[i] for i in rows], ("wer",))["wer"]
    print(f"{manifest.stem}: WER {found.value:.1f} [{found.low:.1f}, {found.high:.1f}], {len(rows)} rows")
    for i in rows[:8]:
        print(f"  {dataset.row(i).src_text!r}\n  {spelled[i]!r}")
    return {"n": len(rows), "wer": asdict(found)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="of stage 1, trained with the objective llm-ctc")
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--report", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    try:
        trained = load_trained(args.checkpoint, cpu=True)
        if getattr(trained.model, "llm_tokenizer", None) is None:
            raise SparqleError(f"{args.checkpoint} was not trained with --objective llm-ctc; give one that was")
        report = {path.stem: examine(trained, path, args.batch_size) for path in args.manifests}
        if args.report:
            write_json(args.report, report)
    except (SparqleError, OSError) as error:
        sys.exit(f"spelled: {error}")


if __name__ == "__main__":
    main()
