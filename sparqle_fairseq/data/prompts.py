"""Prompts for the LLM: the token ids on either side of the speech, and names of languages.

Training, validation and generation all build their prompts with `PromptBuilder.encode`, so the model never meets in
generation a prompt that differs from the one it was trained with. Plain Python: no fairseq and no torch in here.
What is said to the LLM is in `data/wordings.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import langcodes

from sparqle_fairseq.errors import SparqleError, reason

# The place of the speech in an instruction.
SPEECH = "{speech}"
# Stand-ins while a chat template is rendered; templates may trim white space, so they begin and end with none.
_SPEECH_MARK = "§speech§"
_ANSWER_MARK = "§answer§"
_SYSTEM_MARK = "§system§"
# Of answers: a tokenizer that joins a text to a word behind it joins it to one that begins so.
_FIRST_LETTERS = "aeinostADEILMORST"
# Some chat templates write today's date, with this function: every prompt of a model must have the same one. It is the
# day that Llama 3's template takes where it is told none.
_DAY = {"%d": "26", "%m": "07", "%Y": "2024", "%y": "24", "%b": "Jul", "%B": "July", "%a": "Fri", "%A": "Friday"}
_SAME_DAY = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f"|replace('{directive}', '{text}')" for directive, text in _DAY.items())
    + " }}{%- endmacro -%}"
)


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
class Prompt:
    """Token ids before and after the place of the speech."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class PromptBuilder:
    """Turns instructions and answers into token ids of one Hugging Face tokenizer.

    Where the tokenizer has a chat template the instruction becomes its user turn, else plain text. An answer ends with
    the token that ends a turn in that template (`end_of_turn`), or with the tokenizer's end-of-sequence token.

    Args:
        tokenizer: of the LLM.
        system: a system message. A template without a place for one gets it at the start of the user's turn.
        chat_template: False takes plain text though the tokenizer has a chat template.
        before_answer: what plain text has between instruction and answer.
    """

    def __init__(
        self, tokenizer: Any, system: str | None = None, chat_template: bool = True, before_answer: str = "\n"
    ) -> None:
        self.tokenizer = tokenizer
        self.system = system
        self.before_answer = before_answer
        self._name = getattr(tokenizer, "name_or_path", None) or "the LLM"
        self._can_chat = bool(getattr(tokenizer, "chat_template", None))
        self.chats = chat_template and self._can_chat
        self._system_turn = bool(system) and self.chats and self._has_system_turn()
        self.end_of_turn = self._find_end_of_turn()
        self.answer_opening, self._before_answer = self._find_answer()

    def encode(self, instruction: str) -> Prompt:
        """Ids around the speech for an instruction that holds `{speech}` once."""
        first, second = self._around_speech(instruction)
        prefix = [] if self.chats else self._begin_of_sequence()
        return Prompt((*prefix, *self._ids(first)), tuple(self._ids(second, first)))

    def before_the_answer(self, instruction: str) -> str:
        """The prompt's text between the speech and the answer."""
        return self._around_speech(instruction)[1]

    def parts_answers(self, before: str) -> bool:
        """Whether a prompt that ends in `before` and some answer have other tokens where they meet than as one text.

        A tokenizer whose tokens begin with a space has others where `before` ends in one: the model learned to go on
        with a token that cannot follow there any more. A space of sentencepiece's own, before the answer of a prompt
        that ends in none, parts nothing.
        """
        return any(self._parts(before, letter) for letter in _FIRST_LETTERS)

    def _parts(self, before: str, answer: str) -> bool:
        answer = self.answer_opening + answer
        own = self._ids(answer, self._before_answer, split_special_tokens=True)
        head = list(self.tokenizer.encode(before, add_special_tokens=False)) if before else []
        for between in ("",) if not before or before[-1].isspace() else ("", " "):
            joined = list(self.tokenizer.encode(before + between + answer, add_special_tokens=False))
            if joined[: len(head) + 1] == [*head, *own[:1]]:
                return False
        return True

    def _around_speech(self, instruction: str) -> tuple[str, str]:
        """The prompt's text before the speech and behind it."""
        if instruction.count(SPEECH) != 1:
            raise PromptError(f"instruction {instruction!r} must hold {{speech}} exactly once")
        marked = instruction.replace(SPEECH, _SPEECH_MARK)
        if self.chats:
            text = self._chat(marked)
        else:
            text = (f"{self.system}\n{marked}" if self.system else marked) + self.before_answer
        parts = text.split(_SPEECH_MARK)
        if len(parts) != 2:
            raise PromptError(f"the chat template of {self._name} repeats or drops the user's text: {text!r}")
        return parts[0], parts[1]

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an answer, closed by the end-of-turn token. Text that reads like a control token stays text."""
        return [
            *self._ids(self.answer_opening + text, self._before_answer, split_special_tokens=True),
            self.end_of_turn,
        ]

    def _ids(self, text: str, before: str = "", **options: bool) -> list[int]:
        """Ids of `text` as they are behind `before`: at the start of a text sentencepiece puts a space of its own."""
        if not text:
            return []
        alone, head, joined = (
            list(self.tokenizer.encode(each, add_special_tokens=False, **options)) if each else []
            for each in (text, before, before + text)
        )
        return joined[len(head) :] if joined[: len(head)] == head else alone

    def _begin_of_sequence(self) -> list[int]:
        bos = self.tokenizer.bos_token_id
        return [bos] if bos is not None and bos in self.tokenizer.encode("") else []

    def _chat(self, user_text: str) -> str:
        """A chat up to where the answer starts."""
        if self.system and not self._system_turn:
            user_text = f"{self.system}\n\n{user_text}"
        messages = [{"role": "user", "content": user_text}]
        if self._system_turn:
            messages.insert(0, {"role": "system", "content": str(self.system)})
        return self.render(messages)

    def render(self, messages: list[dict[str, str]], add_generation_prompt: bool | None = None, **options: Any) -> str:
        """Text of a chat by the tokenizer's template.

        Args:
            messages: turns, each with `role` and `content`.
            add_generation_prompt: go on to where the assistant's answer begins; by default unless it spoke last.
            options: to the template.

        Raises:
            PromptError: the template cannot be rendered.
        """
        if add_generation_prompt is None:
            add_generation_prompt = messages[-1]["role"] != "assistant"
        try:
            template = self.tokenizer.get_chat_template()
            return self.tokenizer.apply_chat_template(
                messages,
                chat_template=_SAME_DAY + template if "strftime_now" in template else template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **{"enable_thinking": False, **options},  # templates that know nothing of it pass over it
            )
        except Exception as error:  # a Jinja template may raise anything
            raise PromptError(
                f"the chat template of {self._name} cannot be rendered ({reason(error)}); correct it, or take it out "
                "of there"
            ) from error

    def _has_system_turn(self) -> bool:
        """Whether the template shows a system message: Gemma's refuses one, others drop it."""
        try:
            text = self.render([{"role": "system", "content": _SYSTEM_MARK}, {"role": "user", "content": _SPEECH_MARK}])
        except PromptError:
            return False
        return _SYSTEM_MARK in text

    def _answered(self) -> str:
        """A chat whose answer is `_ANSWER_MARK`."""
        return self.render([{"role": "user", "content": _SPEECH_MARK}, {"role": "assistant", "content": _ANSWER_MARK}])

    def _find_answer(self) -> tuple[str, str]:
        """What the template puts before an answer that is not in the prompt (Mistral's: a space); the prompt's end."""
        if not self.chats:
            return "", self.before_answer
        asked = self.render([{"role": "user", "content": _SPEECH_MARK}])
        opening = self._answered().removeprefix(asked).partition(_ANSWER_MARK)[0]
        # Text that is no white space is not the answer's: then this template asks otherwise than it remembers.
        return ("" if opening.strip() else opening), asked.rpartition(_SPEECH_MARK)[2]

    def _find_end_of_turn(self) -> int:
        if self._can_chat:
            _, mark, tail = self._answered().partition(_ANSWER_MARK)
            if not mark:
                raise PromptError(f"the chat template of {self._name} drops the assistant's text")
            special = {*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
            for token in self._ids(tail):
                if token in special:
                    return token
        if self.tokenizer.eos_token_id is None:
            raise PromptError(
                f"the tokenizer of {self._name} has neither an eos_token nor a chat template that ends a turn, so no "
                "answer would end; name an eos_token in its tokenizer_config.json"
            )
        return self.tokenizer.eos_token_id
