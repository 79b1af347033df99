"""The parts that several tabs and endpoints share: settings as widgets, sessions, errors as sentences."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sparqle_fairseq.errors import SparqleError, sentence_of
from sparqle_fairseq.tools.page.languages import codes_of
from sparqle_fairseq.tools.page.limits import check_text
from sparqle_fairseq.tools.page.service import Service
from sparqle_fairseq.tools.page.settings import KNOBS, Knob, settings_from
from sparqle_fairseq.tools.translate.translator import Settings, Target

logger = logging.getLogger(__name__)

TRANSLATE, TRANSCRIBE = "Translate", "Transcribe"
ALL_WORDINGS = "all, side by side"
UNEXPECTED = "something went wrong on the server; its log says more"


def sentence(error: BaseException) -> str:
    """What a person is told; anything but our own errors goes to the server's log."""
    found = sentence_of(error)
    if found is None:
        logger.error("a request failed", exc_info=error)
    return found or UNEXPECTED


def session_of(request: Any) -> str:
    return str(getattr(request, "session_hash", None) or "no session")


def settings_widgets() -> list[Any]:
    """A widget for each of `KNOBS`, in their order."""
    import gradio as gr

    def widget(knob: Knob) -> Any:
        if isinstance(knob.default, bool):
            return gr.Checkbox(knob.default, label=knob.label, info=knob.info, min_width=150)
        if isinstance(knob.default, str):
            return gr.Textbox(knob.default, label=knob.label, info=knob.info, max_lines=1, max_length=200)
        value = knob.default if knob.default is not None else 1
        if knob.field == "seed":
            return gr.Number(value, label=knob.label, info=knob.info, precision=0, minimum=knob.low, min_width=150)
        return gr.Slider(
            knob.low, knob.high, value, step=knob.step, label=knob.label, info=knob.info, min_width=200, buttons=[]
        )

    return [widget(knob) for knob in KNOBS]


def settings_of_widgets(values: Sequence[Any]) -> Settings:
    return settings_from({knob.field: value for knob, value in zip(KNOBS, values, strict=True)})


def targets_for(
    service: Service, task: str, languages: Sequence[str], wording: Any = None, instruction: str = ""
) -> tuple[Target, ...]:
    """What is asked for. `wording` is a number from 1, or `ALL_WORDINGS`; an own `instruction` overrules it.

    Raises:
        SparqleError: no language, too many, one that is none, or wordings that the model does not have.
    """
    model = service.model
    if task.lower() in ("translate", "translation"):
        if not model.can_translate:
            raise SparqleError("this model is of stage 1 and transcribes only; choose Transcribe")
        codes = codes_of(languages)
        service.limits.check_languages(codes)
        asked = [Target("translation", code) for code in codes]
    elif task.lower() in ("transcribe", "transcription"):
        asked = [Target("transcription", model.spoken)]
    else:
        raise SparqleError(f"{task!r} is no task; choose translate or transcribe")
    own = check_text(instruction or "", "the instruction")
    if own:
        return tuple(Target(target.task, target.language, own) for target in asked)
    if wording in (None, "", 1, "1"):
        return tuple(asked)
    found = []
    for target in asked:
        wordings = model.wordings(target.task, target.language)
        if wording == ALL_WORDINGS:
            if len(asked) > 1:
                raise SparqleError("all wordings are shown for one language at a time; leave the others out")
            found += [Target(target.task, target.language, text) for text in wordings] or [target]
            continue
        number = int(wording) if str(wording).isdigit() else 0
        if not 1 <= number <= len(wordings):
            raise SparqleError(f"there is no wording {wording}; this model has {len(wordings)}")
        found.append(Target(target.task, target.language, wordings[number - 1]))
    return tuple(found)
