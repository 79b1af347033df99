"""The arms of the ablations: what each changes of the demo, as options of fairseq-train."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "pretrained_llm")]

from setting import ADAPTERS, PROJECTOR, STAGE1  # noqa: E402


@dataclass(frozen=True)
class Arm:
    """A way to train: options of stage 1 (None: stage 2 alone), of stage 2, of the adapter's shape in both.

    `generation` is for fairseq-generate. An option `{llm}` becomes the LLM's folder, `{own}` the manifest of
    transcripts, and of translations that the LLM itself has written on reading these. With `own_shape` the shape
    stands in the place of the corpus's own, and not beside it. `hears` is for an encoder that learns: training reads
    the recordings, and not what the frozen encoder made of them. With `after` stage 2 goes on from what that arm has
    come to in all of the time but the last part (`--end-share`), which is this arm's own.
    """

    name: str
    stage1: tuple[object, ...] | None
    stage2: tuple[object, ...] = ()
    shape: tuple[object, ...] = ()
    generation: tuple[object, ...] = ()
    own_shape: bool = False
    hears: bool = False
    after: Arm | None = None


TO_LLM = ("--objective", "llm-ctc", "--llm", "{llm}")
# Arms that stand in several groups; they are trained once.
PUBLISHED = Arm("sparqle", ("--objective", "sparqle"))
LLM_CTC = Arm("llm-ctc", TO_LLM)
BEST_SHAPE = ("--queries", 12, "--projector", "scaled")
LLM_CTC_IN_BEST_SHAPE = Arm("12 queries, scaled projector", TO_LLM, shape=BEST_SHAPE)
TRANSCRIPTS_ALONE = ("--task-ratio", "transcription=1,translation=0")
OWN_ANSWERS = ("--train-subset", "{own}")


def in_best_shape(name: str, *stage2: object) -> Arm:
    """Another stage 2 behind the stage 1 of the demo."""
    return Arm(name, TO_LLM, stage2, BEST_SHAPE)


def plain(name: str, *shape: object, stage2: tuple[object, ...] = ()) -> Arm:
    """Another adapter than the Q-Former, with the objective and the projector that did best behind that."""
    return Arm(name, TO_LLM, stage2, ("--projector", "scaled", "--adapter", *shape), own_shape=True)


def windows(name: str, objective: str, *shape: object) -> Arm:
    """Queries that are as many as the speech is long, in windows of one length or of a token each."""
    return Arm(name, ("--objective", objective, "--llm", "{llm}"), shape=("--projector", "scaled", *shape))


def learning_encoder(name: str, *encoder: object) -> Arm:
    """An encoder that goes on learning in both stages, at a tenth of the adapter's rate."""
    slowly = ("--encoder-lr", 2e-4)
    return Arm(name, (*TO_LLM, *slowly), slowly, (*BEST_SHAPE, *encoder), hears=True)


def regression(weight: float, *more: object) -> Arm:
    name = " ".join([f"regression, {weight:g}", *(str(word).removeprefix("--llm-regression-") for word in more)])
    objective = ("--objective", f"llm-ctc+{weight:g}*llm-regression", "--llm", "{llm}")
    return Arm(name, (*objective, *more), shape=BEST_SHAPE)


CONV = plain("conv by 8", "conv", "--speech-stride", 8, "--hidden-size", 180)


def ended(name: str, *end: object) -> Arm:
    """The adapter that did best, and a last part of stage 2 of another kind, at a tenth of the rate."""
    return replace(CONV, name=name, stage2=("--lr", 2e-4, *end), after=CONV)


TRANSCRIPT_FIRST = ("--answer", "transcript-first")
ROOM_FOR_BOTH = ("--max-len-b", 80)


def behind_whisper(name: str, adapter: str, *more: object, objective: str = "llm-ctc") -> Arm:
    """The adapters of the recipe `pretrained_llm`."""
    stage1 = ("--objective", objective, "--llm", "{llm}", *STAGE1)
    return Arm(name, stage1, shape=(*ADAPTERS[adapter], *PROJECTOR, *more), own_shape=True)


# The first arm of a group is what the others are compared with.
GROUPS: dict[str, tuple[Arm, ...]] = {
    # Which objective stage 1 should have.
    "objectives": (
        Arm("none", None),
        PUBLISHED,
        Arm("stg", ("--objective", "stg")),
        Arm("stg-outputs", ("--objective", "stg-outputs")),
        Arm("ctc", ("--objective", "ctc")),
        LLM_CTC,
        Arm("llm-ctc, compressed", TO_LLM, ("--compress-queries",)),
        # At the rate of the others it falls silent: every query becomes a blank, and no gradient brings it back.
        Arm("llm-ctc, soft tokens", TO_LLM, ("--compress-queries", "--soft-tokens", "--lr", 2e-4)),
    ),
    # What each of the three published losses brings, and how two of them are set.
    "losses": (
        PUBLISHED,
        Arm("stm+stg", ("--objective", "stm+stg")),
        Arm("stc+stg", ("--objective", "stc+stg")),
        Arm("stc+stm", ("--objective", "stc+stm")),
        Arm("no smoothing of stc", ("--stc-smoothing", 0)),
        Arm("uniform negatives", ("--stm-negatives", "uniform")),
        LLM_CTC,
        Arm("llm-ctc+stc", ("--objective", "llm-ctc+stc", "--llm", "{llm}")),
        Arm("llm-ctc+stg", ("--objective", "llm-ctc+stg", "--llm", "{llm}")),
    ),
    # The Q-Former and the projector, with the objective that the demo uses. The first has 24 queries, linear.
    "shape": (
        LLM_CTC,
        Arm("12 queries", TO_LLM, shape=("--queries", 12)),
        Arm("48 queries", TO_LLM, shape=("--queries", 48)),
        Arm("speech in every 2nd layer", TO_LLM, shape=("--cross-attention-freq", 2)),
        Arm("mlp projector", TO_LLM, shape=("--projector", "mlp")),
        Arm("scaled projector", TO_LLM, shape=("--projector", "scaled")),
        LLM_CTC_IN_BEST_SHAPE,
        Arm("linear-norm projector", TO_LLM, shape=("--projector", "linear-norm")),
        Arm("published query start", TO_LLM, shape=("--query-start", "learned")),
        Arm("Q-Former frozen in stage 2", TO_LLM, ("--freeze-qformer",)),
    ),
    # Whether the order of the objectives is that of the first group in the shape that did best with `llm-ctc`.
    "best-shape": (
        Arm("none, 12 queries, scaled", None, shape=BEST_SHAPE),
        Arm("sparqle, 12 queries, scaled", PUBLISHED.stage1, shape=BEST_SHAPE),
        Arm("ctc, 12 queries, scaled", ("--objective", "ctc"), shape=BEST_SHAPE),
        LLM_CTC_IN_BEST_SHAPE,
    ),
    # What the Q-Former brings over plain adapters of its size: 0.53 million weights behind the demo's encoder (`ctc`
    # 0.50). A sentence of the demo has 12 or 23 outputs with 8 or 4 frames in each.
    "adapters": (
        LLM_CTC_IN_BEST_SHAPE,
        Arm("12 queries, compressed", TO_LLM, ("--compress-queries",), BEST_SHAPE),
        plain("stack of 4", "stack", "--speech-stride", 4, "--ffn-size", 830),
        plain("stack of 8", "stack", "--speech-stride", 8, "--ffn-size", 460),
        plain("conv by 4", "conv", "--speech-stride", 4, "--hidden-size", 240),
        CONV,
        plain("ctc encoder by 4", "ctc", "--speech-stride", 4, stage2=("--compress-queries",)),
    ),
    # Queries drawn to the embeddings of the tokens that they speak for, with and without a margin; and whether points
    # that lie there serve the LLM better when blanks are left out.
    "regression": (
        LLM_CTC_IN_BEST_SHAPE,
        regression(0.1),
        regression(1),
        regression(1, "--llm-regression-margin", 0.3),
        regression(1, "--llm-regression-distance", "cosine"),
        replace(regression(1), name="regression, 1, compressed", stage2=("--compress-queries",)),
    ),
    # Where queries look: in all of the sentence, in windows of one length, in windows that end where tokens do.
    "windows": (
        LLM_CTC_IN_BEST_SHAPE,
        windows("windows of 0.16 s", "llm-ctc", "--query-window-seconds", 0.16, "--queries-per-window", 1),
        windows("windows of 0.32 s, 2 queries", "llm-ctc", "--query-window-seconds", 0.32, "--queries-per-window", 2),
        windows(
            "windows by CTC",
            "llm-ctc+frame-ctc",
            *("--query-windows", "ctc", "--query-window-seconds", 0.08, "--queries-per-window", 1),
        ),
        windows(
            "windows by CTC, 2 queries",
            "llm-ctc+frame-ctc",
            *("--query-windows", "ctc", "--query-window-seconds", 0.08, "--queries-per-window", 2),
        ),
    ),
    # The encoder learns, too. It runs in every update then, which the second arm pays for without a gain.
    "encoder": (
        LLM_CTC_IN_BEST_SHAPE,
        Arm("from recordings, frozen", TO_LLM, shape=BEST_SHAPE, hears=True),
        learning_encoder("encoder LoRA", "--encoder-lora", 8),
        learning_encoder("encoder, upper layer", "--unfreeze-encoder-layers", 1),
    ),
    # What stage 2 is asked for. Its training set has as many transcriptions as translations.
    "tasks": (
        LLM_CTC,
        Arm("1 transcription to 3 translations", TO_LLM, ("--task-ratio", "transcription=1,translation=3")),
        Arm("translations alone", TO_LLM, ("--task-ratio", "transcription=0,translation=1")),
        Arm("transcript first", TO_LLM, TRANSCRIPT_FIRST, generation=ROOM_FOR_BOTH),
    ),
    # What stage 2 should learn from. The first three have translations into French, the others none but the LLM's own;
    # those are into every language, so that its zero-shot scores are of languages without a translation by a person.
    "stage2": (
        LLM_CTC_IN_BEST_SHAPE,
        in_best_shape("distill", "--objective", "distill"),
        in_best_shape("answer+distill", "--objective", "answer+distill"),
        in_best_shape("transcripts alone", *TRANSCRIPTS_ALONE),
        in_best_shape("distill, transcripts alone", "--objective", "distill", *TRANSCRIPTS_ALONE),
        in_best_shape("the LLM's own answers", *OWN_ANSWERS),
        in_best_shape("distill, the LLM's own answers", "--objective", "distill", *OWN_ANSWERS),
        in_best_shape("both styles of answers", "--answer-mix", 0.5),
        Arm("transcript first, 12 queries", TO_LLM, TRANSCRIPT_FIRST, BEST_SHAPE, ROOM_FOR_BOTH),
        Arm(
            "transcript first, with errors",
            TO_LLM,
            (*TRANSCRIPT_FIRST, "--transcript-errors", 0.1),
            BEST_SHAPE,
            ROOM_FOR_BOTH,
        ),
    ),
    # What the end of stage 2 learns from: its answers once more, or the answers that it finds itself. The first arm has
    # no such end: its rate falls to nothing once, over all of the time.
    "end": (
        CONV,
        ended("ended by answer", "--objective", "answer"),
        ended("ended by answer+minimum-risk", "--objective", "answer+minimum-risk"),
        ended("ended by answer+preference", "--objective", "answer+preference"),
    ),
    # The adapter that did best, with what did best in stage 2 behind the Q-Former.
    "best": (
        LLM_CTC_IN_BEST_SHAPE,
        CONV,
        replace(CONV, name="conv by 8, transcript first", stage2=TRANSCRIPT_FIRST, generation=ROOM_FOR_BOTH),
        replace(CONV, name="conv by 8, the LLM's own answers", stage2=OWN_ANSWERS),
    ),
    # What the Q-Former brings over a convolution of as many weights behind Whisper's encoder and SmolLM2; whether a
    # convolution that knows its 86 minutes by heart gains from hidden features, and from outputs that lie on tokens.
    "pretrained": (
        behind_whisper("Q-Former, 16 queries a window", "qformer"),
        behind_whisper("conv by 4, 416 wide", "conv"),
        behind_whisper("conv, features hidden", "conv", "--time-masks", 2, "--channel-masks", 2),
        behind_whisper("conv, regression", "conv", objective="llm-ctc+1*llm-regression"),
    ),
}
# Every arm, by its name.
ARMS: dict[str, Arm] = {arm.name: arm for group in GROUPS.values() for arm in group}
