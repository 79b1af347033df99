"""What is said to the LLM: instruction templates by task and target language, read from YAML.

docs/prompts.md describes the files. Plain Python: no fairseq and no torch in here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import langcodes
import yaml

from sparqle_fairseq.data.prompts import SPEECH, PromptBuilder, PromptError, language_name
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_text

# The last one asks for translations whose answers begin with the transcript (`--answer transcript-first`).
PROMPT_TASKS = ("transcription", "translation", "transcript_translation")
# Template files that ship; `--prompt-templates` takes their names.
PROFILES = Path(__file__).parent / "templates"

_LANGUAGE = "{language}"
_DEFAULT = "default"
_BASE = "base"
_PLACES = re.compile(r"\{\w*\}")


@dataclass(frozen=True)
class PromptTemplates:
    """Instruction wordings, and how they are put to the LLM.

    Args:
        wordings: by task, then by language code or `default`; each holds `{speech}` once.
        system: the system message.
        speech: what stands where a wording has `{speech}`; it holds `{speech}` once itself.
        chat_template: whether the tokenizer's chat template is used where it has one.
        before_answer: text between instruction and answer where no chat template is used.
        stop: texts before which an answer ends, for an LLM that knows no end of turn.
        file: where all this was read.
    """

    wordings: Mapping[str, Mapping[str, Sequence[str]]]
    system: str | None = None
    speech: str = SPEECH
    chat_template: bool = True
    before_answer: str = "\n"
    stop: tuple[str, ...] = ()
    file: Path | None = None

    @classmethod
    def load(cls, path: str | Path | None = None) -> PromptTemplates:
        """Read a template file, or one that ships by its name (`None`: default). Raises `PromptError` naming it."""
        path = template_file(path)
        content = _read_file(path)
        if _BASE in content:
            base = template_file(content.pop(_BASE), path.parent)
            content = _read_file(base) | content
            if _BASE in content:
                raise PromptError(f"{path}: its {_BASE} {base} has a {_BASE} itself; name that one")
        stop = _read_stop(path, content.pop(_STOP, None))
        unknown = sorted(set(map(str, content)) - {*PROMPT_TASKS, *_SETTINGS})
        if unknown:
            known = ", ".join((*PROMPT_TASKS, *_SETTINGS, _STOP))
            raise PromptError(f"{path}: unknown key {unknown[0]!r}; expected {known} or {_BASE}")
        settings: dict[str, Any] = {name: content[name] for name in _SETTINGS if name in content}
        if settings.get("system", "") is None:
            del settings["system"]
        for name, value in settings.items():
            if not isinstance(value, _SETTINGS[name]):
                what = "true or false" if _SETTINGS[name] is bool else "a text"
                raise PromptError(f"{path}: {name!r} must be {what}, found {value!r}")
        if "speech" in settings:
            _check_places(path, settings["speech"], known=(SPEECH,))
        wordings = {task: _read_task(path, task, content[task]) for task in PROMPT_TASKS if task in content}
        return cls(wordings, file=path, stop=stop, **settings)

    def builder(self, tokenizer: Any) -> PromptBuilder:
        """The builder that puts these instructions to the LLM of `tokenizer`."""
        return PromptBuilder(tokenizer, self.system, self.chat_template, self.before_answer)

    def partings(self, builder: PromptBuilder) -> list[str]:
        """A sentence for each key whose text parts prompt and answer where their tokenizer would join them."""
        found = {}
        for task, languages in self.wordings.items():
            for code, lines in languages.items():
                for line in lines:
                    text = line.replace(_LANGUAGE, "French").replace(SPEECH, self.speech)
                    before = builder.before_the_answer(text)
                    if not builder.parts_answers(before):
                        continue
                    key = f"{task} ({code}, {line!r})"
                    if builder.chats:
                        key = "chat_template: true (the tokenizer's own)"
                    elif self.before_answer:
                        key = f"before_answer ({self.before_answer!r})"
                    found[key] = before
        return [
            f"{self.file}: {key} ends the prompt in {before[-1:]!r}, and an answer would have another first token if "
            "both were one text; an LLM that was not trained on such prompts goes on badly: end them without it"
            for key, before in found.items()
        ]

    def instruction(
        self,
        task: str,
        tgt_lang: str | None = None,
        own_prompt: str | None = None,
        rng: random.Random | None = None,
        wording: int = 0,
    ) -> str:
        """One instruction that still holds `{speech}` once.

        `own_prompt` (a manifest's `prompt` column) takes the template's place; without `{speech}` in it, the speech
        comes first. With `rng` a wording is drawn, without it that of the number `wording` is taken.
        """
        if own_prompt:
            if own_prompt.count(SPEECH) > 1:
                raise PromptError(f"prompt {own_prompt!r} has {{speech}} more than once; write it once")
            text = own_prompt if SPEECH in own_prompt else f"{SPEECH} {own_prompt}"
        else:
            wordings = self.wordings_of(task, tgt_lang)
            if rng is None and not 0 <= wording < len(wordings):
                raise PromptError(
                    f"there is no wording {wording} of {task}; the templates have {len(wordings)}, from 0"
                )
            text = rng.choice(list(wordings)) if rng else wordings[wording]
        if _LANGUAGE in text:
            if not tgt_lang:
                raise PromptError(f"the instruction {text!r} names the target language, but the row has no tgt_lang")
            text = text.replace(_LANGUAGE, language_name(tgt_lang))
        return text.replace(SPEECH, self.speech)

    def wordings_of(self, task: str, tgt_lang: str | None) -> Sequence[str]:
        """The wordings that ask for a task in a language, as the file has them. Raises `PromptError`: it has none."""
        file = self.file or "the template file"
        languages = self.wordings.get(task)
        if not languages:
            known = ", ".join(sorted(self.wordings))
            raise PromptError(f"no template for task {task!r}; {file} has: {known or 'none'}")
        for code in [*_ever_wider(tgt_lang if set(languages) != {_DEFAULT} else None), _DEFAULT]:
            if code in languages:
                return languages[code]
        raise PromptError(
            f"no template for task {task!r} into {tgt_lang or 'an unknown language'}; {file} has "
            f"{', '.join(languages)}: add the language or {_DEFAULT}"
        )


_STOP = "stop"
_SETTINGS: dict[str, type] = {"system": str, "speech": str, "chat_template": bool, "before_answer": str}


def profile_names() -> list[str]:
    """Names of the template files that ship."""
    return sorted(file.stem for file in PROFILES.glob("*.yaml"))


def template_file(path_or_name: str | Path | None, folder: Path | None = None) -> Path:
    """The file of `--prompt-templates`: a name of `profile_names()`, or a path in `folder`; None is `default`."""
    name = str(path_or_name or _DEFAULT)
    return PROFILES / f"{name}.yaml" if name in profile_names() else (folder or Path()) / name


def _read_file(path: Path) -> dict[Any, Any]:
    try:
        text = read_text(path, "template file")
    except SparqleError as error:
        raise PromptError(f"{error}; --prompt-templates takes a file or one of {', '.join(profile_names())}") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PromptError(
            f"{path}: cannot be read as a YAML template file ({reason(error)}); give --prompt-templates a file or one "
            f"of {', '.join(profile_names())}"
        ) from error
    if not isinstance(content, dict):
        raise PromptError(f"{path}: expected a mapping with the keys {', '.join(PROMPT_TASKS)}")
    return content


def _read_task(path: Path, task: str, content: Any) -> dict[str, tuple[str, ...]]:
    """Wordings of a task by language: a list is that of every language."""
    languages = content if isinstance(content, dict) else {_DEFAULT: content}
    wordings = {}
    for code, lines in languages.items():
        # YAML 1.1 takes a bare `no` (Norwegian) for false.
        key = "no" if code is False else str(code)
        if key != _DEFAULT:
            try:
                language_name(key)
            except PromptError as error:
                raise PromptError(f"{path}: {task!r} has the key {key!r}: {error}") from error
            key = langcodes.standardize_tag(key)
        if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
            raise PromptError(
                f"{path}: {task!r} must be a list of texts, or a mapping of language codes and {_DEFAULT} to such lists"
            )
        for line in lines:
            _check_places(path, line, known=(SPEECH, _LANGUAGE))
        wordings[key] = tuple(lines)
    return wordings


def _read_stop(path: Path, content: Any) -> tuple[str, ...]:
    """A text, or several, none of them empty."""
    texts = [content] if isinstance(content, str) else [] if content is None else content
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise PromptError(f"{path}: {_STOP!r} must be a text or a list of texts, none of them empty; found {content!r}")
    return tuple(texts)


def _check_places(path: Path, line: str, known: Sequence[str]) -> None:
    if line.count(SPEECH) != 1:
        raise PromptError(f"{path}: {line!r} has {{speech}} {line.count(SPEECH)} times; write it once")
    for place in _PLACES.findall(line):
        if place not in known:
            raise PromptError(f"{path}: {line!r} has {place}, which nothing fills in; write {' or '.join(known)}")


def _ever_wider(code: str | None) -> list[str]:
    """`pt-BR` -> [`pt-BR`, `pt`]; as the keys are written. Raises `PromptError` for a code that is none."""
    if not code:
        return []
    language_name(code)
    parts = langcodes.standardize_tag(code).split("-")
    return ["-".join(parts[:count]) for count in range(len(parts), 0, -1)]
