"""Prompts for the LLM: instruction templates, and the token ids on either side of the speech.

Training, validation and generation all build their prompts with `PromptBuilder.encode`, so the model never meets in
generation a prompt that differs from the one it was trained with. Plain Python: no fairseq and no torch in here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import langcodes
import yaml

from sparqle_fairseq.errors import SparqleError

TASKS = ("transcription", "translation")
DEFAULT_TEMPLATES = Path(__file__).parent / "templates" / "default.yaml"

_SPEECH = "{speech}"
_LANGUAGE = "{language}"
# Stand-ins while a chat template is rendered; templates may trim white space, so they begin and end with none.
_SPEECH_MARK = "§speech§"
_ANSWER_MARK = "§answer§"


class PromptError(SparqleError):
    """A template, language code or tokenizer that no prompt can be built from. The message is one sentence."""


def language_name(code: str) -> str:
    """English name of a BCP-47 language code: `fr` -> `French`, `pt-BR` -> `Portuguese (Brazil)`."""
    try:
        language = langcodes.Language.get(code)
        known = language.is_valid() and bool(language.language)
    except ValueError:
        known = False
    if not known:
        raise PromptError(f"{code!r} is not a BCP-47 language code; write for example 'fr', 'de' or 'pt-BR'")
    return language.display_name("en")


@dataclass(frozen=True)
class PromptTemplates:
    """Instruction wordings by task, and an optional system message."""

    wordings: Mapping[str, Sequence[str]]
    system: str | None = None
    file: Path | None = None

    @classmethod
    def load(cls, path: str | Path | None = None) -> PromptTemplates:
        """Read a YAML template file (`None`: the one that ships). Raises `PromptError` naming the file."""
        path = Path(path) if path else DEFAULT_TEMPLATES
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise PromptError(f"{path}: cannot be read as a YAML template file ({reason})") from error
        if not isinstance(content, dict):
            raise PromptError(f"{path}: expected a mapping with the keys {', '.join(TASKS)}")
        unknown = sorted(set(map(str, content)) - {*TASKS, "system"})
        if unknown:
            raise PromptError(f"{path}: unknown key {unknown[0]!r}; expected {', '.join(TASKS)} and system")
        system = content.get("system")
        if system is not None and not isinstance(system, str):
            raise PromptError(f"{path}: 'system' must be a text, found {type(system).__name__}")
        wordings = {}
        for task in TASKS:
            lines = content.get(task, [])
            if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
                raise PromptError(f"{path}: {task!r} must be a list of texts")
            for line in lines:
                if line.count(_SPEECH) != 1:
                    raise PromptError(f"{path}: {line!r} has {{speech}} {line.count(_SPEECH)} times; write it once")
            wordings[task] = tuple(lines)
        return cls(wordings, system, path)

    def instruction(
        self,
        task: str,
        tgt_lang: str | None = None,
        own_prompt: str | None = None,
        rng: random.Random | None = None,
    ) -> str:
        """One instruction that still holds `{speech}` once.

        `own_prompt` (a manifest's `prompt` column) takes the template's place; without `{speech}` in it, the speech
        comes first. With `rng` a wording is drawn, without it the first one is taken.
        """
        if own_prompt:
            if own_prompt.count(_SPEECH) > 1:
                raise PromptError(f"prompt {own_prompt!r} has {{speech}} more than once; write it once")
            text = own_prompt if _SPEECH in own_prompt else f"{_SPEECH} {own_prompt}"
        else:
            wordings = self.wordings.get(task)
            if not wordings:
                known = ", ".join(sorted(name for name, lines in self.wordings.items() if lines))
                file = self.file or "the template file"
                raise PromptError(f"no template for task {task!r}; {file} has: {known or 'none'}")
            text = rng.choice(list(wordings)) if rng else wordings[0]
        if _LANGUAGE in text:
            if not tgt_lang:
                raise PromptError(f"the instruction {text!r} names the target language, but the row has no tgt_lang")
            text = text.replace(_LANGUAGE, language_name(tgt_lang))
        return text


@dataclass(frozen=True)
class Prompt:
    """Token ids before and after the place of the speech."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class PromptBuilder:
    """Turns instructions and answers into token ids of one Hugging Face tokenizer.

    Where the tokenizer has a chat template the instruction becomes its user turn, else plain text. An answer ends with
    the token that ends a turn in that template (`end_of_turn`), or with the tokenizer's end-of-sequence token.
    """

    def __init__(self, tokenizer: Any, system: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.system = system
        self.end_of_turn = self._find_end_of_turn()

    def encode(self, instruction: str) -> Prompt:
        """Ids around the speech for an instruction that holds `{speech}` once."""
        if instruction.count(_SPEECH) != 1:
            raise PromptError(f"instruction {instruction!r} must hold {{speech}} exactly once")
        marked = instruction.replace(_SPEECH, _SPEECH_MARK)
        if self._has_chat_template:
            text, prefix = self._render(marked), []
        else:
            text = f"{self.system}\n{marked}\n" if self.system else f"{marked}\n"
            prefix = self._begin_of_sequence()
        parts = text.split(_SPEECH_MARK)
        if len(parts) != 2:
            raise PromptError(f"the tokenizer's chat template repeats or drops the user's text: {text!r}")
        before, after = (tuple(self._ids(part)) for part in parts)
        return Prompt((*prefix, *before), after)

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an answer, closed by the end-of-turn token."""
        return [*self._ids(text), self.end_of_turn]

    @property
    def _has_chat_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []

    def _begin_of_sequence(self) -> list[int]:
        bos = self.tokenizer.bos_token_id
        return [bos] if bos is not None and bos in self.tokenizer.encode("") else []

    def _render(self, user_text: str, answer: str | None = None) -> str:
        user = user_text
        messages = [{"role": "user", "content": user}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)
        except Exception as error:  # a Jinja template may raise anything; many refuse a system message
            if self.system:
                raise PromptError(
                    f"the tokenizer's chat template refuses the system message ({error}); set 'system: null' in "
                    "the template file"
                ) from error
            raise PromptError(f"the tokenizer's chat template cannot be rendered ({error})") from error

    def _find_end_of_turn(self) -> int:
        if self._has_chat_template:
            _, mark, tail = self._render(_SPEECH_MARK, _ANSWER_MARK).partition(_ANSWER_MARK)
            if not mark:
                raise PromptError("the tokenizer's chat template drops the assistant's text")
            special = {*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
            for token in self._ids(tail):
                if token in special:
                    return token
        if self.tokenizer.eos_token_id is None:
            raise PromptError("the tokenizer has neither a chat template with an end of turn nor an eos_token")
        return self.tokenizer.eos_token_id
