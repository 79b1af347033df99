"""Options of generation: those beyond fairseq's own, and what the search makes of fairseq's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sparqle_fairseq.data.options import choice, plain_options
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.search import SearchSettings
from sparqle_fairseq.generate.stopping import stop_texts

RERANKINGS = ("none", "mbr")
CONTRASTS = ("none", "removed", "silence")
# Bits a token; how it was chosen: docs/decoding.md, "Was the speech heard?".
LEAST_CONTRAST = 0.5


@dataclass
class DecodingOptions:
    min_tokens_per_second: float = field(
        default=0.0, metadata={"help": "fewest tokens of an answer for each second of its speech; 0: no such limit"}
    )
    max_tokens_per_second: float = field(
        default=0.0,
        metadata={"help": "most tokens of an answer for each second of its speech; 0: no such limit"},
    )
    repetition_penalty: float = field(
        default=1.0,
        metadata={"help": "the log-probability of a token that the answer already holds is multiplied by this; 1: off"},
    )
    loop_guard: bool = field(
        default=False,
        metadata={"help": "where the best text goes round in circles, search again without any repeated 3 tokens"},
    )
    prefix: str = field(
        default="",
        metadata={"help": "text that every answer begins with; a row's own, in its manifest's column prefix, is first"},
    )
    stop: str = field(
        default="",
        metadata={
            "help": "text before which every answer ends, such as \\n; may be given more than once. For LLMs that know "
            "no end of turn; a template file may name its own (key stop)"
        },
    )
    rerank: str = choice(
        "none", RERANKINGS, "mbr: put first the hypothesis that is most like the others, by chrF (minimum Bayes risk)"
    )
    speech_contrast: str = choice(
        "none",
        CONTRASTS,
        "print on I- lines how much likelier the speech makes a hypothesis than no speech does (removed: "
        "from the prompt; silence: a silent recording), and flag those that it does not",
    )
    least_contrast: float = field(
        default=LEAST_CONTRAST, metadata={"help": "bits a token below which --speech-contrast flags a hypothesis"}
    )


def decoding_options(source: Any) -> DecodingOptions:
    """Those among the options of a task, which may be older than some of them. Raises `SparqleError`."""
    made = plain_options(DecodingOptions, source)
    for name in ("min_tokens_per_second", "max_tokens_per_second"):
        if getattr(made, name) < 0:
            raise SparqleError(f"--{name.replace('_', '-')} {getattr(made, name):g} must be above 0, or 0 for no limit")
    if 0 < made.max_tokens_per_second < made.min_tokens_per_second:
        raise SparqleError(
            f"--min-tokens-per-second {made.min_tokens_per_second:g} is more than --max-tokens-per-second "
            f"{made.max_tokens_per_second:g}; no answer has both"
        )
    stop_texts(made.stop)  # refuses what cannot be
    if made.repetition_penalty < 1:
        raise SparqleError(f"--repetition-penalty {made.repetition_penalty:g} must be 1 (off) or more")
    return made


@dataclass
class SearchOptions:
    """fairseq's generation options that the search reads, under their names there and with their defaults."""

    beam: int = 5
    nbest: int = 1
    lenpen: float = 1.0
    unnormalized: bool = False
    min_len: int = 1
    max_len_a: float = 0.0
    max_len_b: int = 200
    temperature: float = 1.0
    sampling: bool = False
    sampling_topk: int = -1
    sampling_topp: float = -1.0
    no_repeat_ngram_size: int = 0


# fairseq's generation options that this search does not have, with the value that means "not asked for".
_NOT_OFFERED = {
    "diverse_beam_groups": -1,
    "diversity_rate": -1.0,
    "constraints": None,
    "lm_path": None,
    "match_source_len": False,
    "replace_unk": None,
    "retain_iter_history": False,
    "unkpen": 0,
}


def settings_of(options: Any, seed: int, repetition_penalty: float = 1.0) -> SearchSettings:
    """Search settings of fairseq's generation options. Raises `SparqleError` for an option that has no effect here."""
    for name, off in _NOT_OFFERED.items():
        value = getattr(options, name, off)
        if value != off:
            raise SparqleError(f"--{name.replace('_', '-')} {value} is not offered by this task; leave it out")
    if options.nbest > options.beam:
        raise SparqleError(f"--nbest {options.nbest} asks for more hypotheses than --beam {options.beam} makes")
    if options.temperature <= 0:
        raise SparqleError(f"--temperature {options.temperature} must be above 0")
    if not options.sampling and (options.sampling_topk > 0 or options.sampling_topp > 0):
        raise SparqleError("--sampling-topk and --sampling-topp need --sampling")
    return SearchSettings(
        beam=options.beam,
        lenpen=options.lenpen,
        unnormalized=options.unnormalized,
        temperature=options.temperature,
        sampling=options.sampling,
        sampling_topk=options.sampling_topk,
        sampling_topp=options.sampling_topp,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
