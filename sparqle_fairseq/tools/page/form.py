"""The parts that several tabs and endpoints share: settings as widgets, sessions, errors as sentences."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sparqle_fairseq.errors import SparqleError, sentence_of
from sparqle_fairseq.tools.page import view
from sparqle_fairseq.tools.page.languages import choices, codes_of
from sparqle_fairseq.tools.page.limits import check_text
from sparqle_fairseq.tools.page.service import Service
from sparqle_fairseq.tools.page.settings import GROUPS, KNOBS, Knob, settings_from
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
    """A widget for each of `KNOBS`, in their order, under the names of their groups."""
    import gradio as gr

    def widget(knob: Knob) -> Any:
        said: dict[str, Any] = {"label": knob.label, "info": knob.info, "elem_id": f"set-{knob.field}"}
        if isinstance(knob.default, bool):
            return gr.Checkbox(knob.default, **said)
        if isinstance(knob.default, str):
            return gr.Textbox(knob.default, max_lines=1, max_length=200, **said)
        value = knob.default if knob.default is not None else 1
        if knob.field == "seed":
            return gr.Number(value, precision=0, minimum=knob.low, **said)
        return gr.Slider(knob.low, knob.high, value, step=knob.step, buttons=[], **said)

    found = []
    for group in GROUPS:
        gr.HTML(f"<h2>{group}</h2>", elem_classes="sq-group", padding=False)
        with gr.Row(elem_classes="sq-knobs"):
            found += [widget(knob) for knob in KNOBS if knob.group == group]
    return found


def language_field(service: Service, several: bool, elem_id: str) -> Any:
    """A list of all languages to search in; what is typed and no choice of it is for `read_typed`."""
    import gradio as gr

    model = service.model
    first = next(iter(model.trained), "fr")
    return gr.Dropdown(
        choices(model.trained),
        value=[first] if several else first,
        multiselect=several,
        max_choices=service.limits.languages if several else None,
        allow_custom_value=True,
        label="Into",
        info="type to search, choose with the arrows; or type a whole name or code",
        elem_id=elem_id,
        visible=model.can_translate,
    )


def read_typed(field: Any, state: Any) -> None:
    """Have a field of `language_field` read typed names and codes at once; what is none is left out and said."""
    import gradio as gr

    def read(values: list[str] | str | None) -> Any:
        given = [values] if isinstance(values, str) else list(values or [])
        known, failed = [], ""
        for value in given:
            try:
                known += codes_of([value])
            except SparqleError as error:
                failed = view.failure(sentence(error))
        known = list(dict.fromkeys(known))
        if known == given:
            return gr.skip(), gr.skip()
        shown = known if isinstance(values, list) else next(iter(known), None)
        return gr.update(value=shown), failed or view.status("Ready.")

    field.change(read, field, [field, state], queue=False, api_visibility="private", show_progress="hidden")


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
    own = check_text(instruction, "the instruction")
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
