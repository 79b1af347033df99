"""What programs call, with gradio_client or any other: the same service, limits and sentences."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparqle_fairseq.errors import sentence_of
from sparqle_fairseq.tools.page.batch import run_batch, unpack, uploads
from sparqle_fairseq.tools.page.compare import compare
from sparqle_fairseq.tools.page.form import UNEXPECTED, logger, session_of, targets_for
from sparqle_fairseq.tools.page.languages import choices
from sparqle_fairseq.tools.page.look import look_inside
from sparqle_fairseq.tools.page.service import Over, Request, Said, Service, Stop, Stopped
from sparqle_fairseq.tools.page.settings import KNOBS, settings_from
from sparqle_fairseq.tools.page.texts import Texts
from sparqle_fairseq.tools.page.uploads import recording_of


def build(service: Service) -> None:
    """Hidden widgets and the named endpoints over them: about, languages, translate, look, compare, batch."""
    import gradio as gr

    def told(work: Any) -> Any:
        try:
            return work()
        except Stopped:
            raise gr.Error("The request was stopped.", print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:
            sentence = sentence_of(error)
            if sentence is None:
                logger.error("a request failed", exc_info=error)
            raise gr.Error(sentence or UNEXPECTED, print_exception=False) from error

    def listed(languages: Any) -> list[str]:
        return [languages] if isinstance(languages, str) else list(languages or [])

    def about() -> dict[str, Any]:
        model = service.model
        return {
            "model": vars(model.about),
            "can_translate": model.can_translate,
            "trained": list(model.trained),
            "limits": vars(service.limits),
            "settings": {knob.field: {"default": knob.default, "says": knob.info} for knob in KNOBS},
        }

    def languages() -> list[dict[str, Any]]:
        trained = service.model.trained
        return [{"code": code, "name": name, "trained": code in trained} for name, code in choices(trained)]

    def translate(
        audio: str, task: str, languages: Any, settings: Any, wording: Any, instruction: str, request: gr.Request
    ) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            recording = recording_of(audio)
            targets = targets_for(service, task or "translate", listed(languages), wording, instruction)
            said: list[Said] = []
            with service.session(session_of(request)) as stop:
                for event in service.stream(Request(recording, targets, settings_from(settings or {})), stop):
                    if isinstance(event, Said):
                        said.append(event)
                    elif isinstance(event, Over) and event.stopped:
                        raise Stopped
            return Texts(recording.name, recording.stem, targets, said).as_object()

        return told(work)

    def look(audio: str, segment: float, task: str, language: str, settings: Any, request: gr.Request) -> Any:
        def work() -> Any:
            recording = recording_of(audio)
            (target,) = targets_for(service, task or "translate", [language])
            asked = settings_from(settings or {})
            service.limits.seconds_of(recording)

            def inside(stop: Stop) -> Any:
                found = list(service.segments(recording, "vad"))
                place = int(segment)
                if not 1 <= place <= len(found):
                    raise gr.Error(f"The recording has {len(found)} segments; there is no {place}.")
                return look_inside(service.model, found[place - 1], target, asked, stop)

            with service.session(session_of(request)) as stop:
                seen = service.in_turn(inside, stop)
            texts = [{"text": text, "score": score} for text, score in seen.rivals]
            return seen.picture, {"texts": texts, "heard_bits": seen.heard_bits, "ended": seen.ended}

        return told(work)

    def side_by_side(
        audio: str, kind: str, task: str, language: str, transcript: str, reference: str, request: gr.Request
    ) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            recording = recording_of(audio)
            (target,) = targets_for(service, task or "translate", [language])
            with service.session(session_of(request)) as stop:
                found = compare(service, recording, target, settings_from({}), kind, transcript, reference, stop)
            return {"names": found.names, "texts": found.texts, "scores": dict(found.scores())}

        return told(work)

    def batch(files: list[str], task: str, languages: Any, settings: Any, request: gr.Request) -> Iterator[Any]:
        def work(folder: Path) -> tuple[str, dict[str, Any]]:
            targets = targets_for(service, task or "translate", listed(languages))
            asked = settings_from(settings or {})
            sent = unpack(uploads(files), service.limits, folder)
            with service.session(session_of(request)) as stop:
                *_, report = run_batch(service, sent, targets, asked, stop, folder)
                stop.watch()
            return str(report.file), report.as_object()

        # The zip is copied to where it may be fetched before the generator goes on, and its folder with it.
        with tempfile.TemporaryDirectory() as folder:
            yield told(lambda: work(Path(folder)))

    for function in (translate, look, side_by_side, batch):
        function.__annotations__ = {"request": gr.Request}
    with gr.Row(visible=False):
        audio = gr.Audio(type="filepath", label="audio", buttons=[])
        task = gr.Textbox("translate", label="task")
        codes = gr.JSON([], label="languages")
        code = gr.Textbox("fr", label="language")
        settings = gr.JSON({}, label="settings")
        wording = gr.Textbox("1", label="wording")
        instruction = gr.Textbox("", label="instruction")
        segment = gr.Number(1, label="segment")
        kind = gr.Textbox("transcript", label="kind")
        transcript = gr.Textbox("", label="transcript")
        reference = gr.Textbox("", label="reference")
        answer = gr.JSON(label="answer")
        picture = gr.Image(label="picture", buttons=[])
        files = gr.File(file_count="multiple", label="files")
        texts = gr.File(label="texts")
        button = gr.Button("ask")
    many: dict[str, Any] = {"concurrency_limit": None}
    button.click(about, None, answer, api_name="about", queue=False)
    button.click(languages, None, answer, api_name="languages", queue=False)
    asked = [audio, task, codes, settings, wording, instruction]
    button.click(translate, asked, answer, api_name="translate", **many)
    button.click(look, [audio, segment, task, code, settings], [picture, answer], api_name="look", **many)
    compared = [audio, kind, task, code, transcript, reference]
    button.click(side_by_side, compared, answer, api_name="compare", **many)
    button.click(batch, [files, task, codes, settings], [texts, answer], api_name="batch", **many)
