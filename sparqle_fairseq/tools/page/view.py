"""What a person sees of a request, as HTML. Every text from outside is escaped here."""

from __future__ import annotations

import html
from collections.abc import Sequence

from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.tools.page.service import Said
from sparqle_fairseq.tools.translate.translator import Target

MOST_OF_A_LABEL = 30  # letters
ENDINGS = {
    "end": "it ended by itself",
    "length": "cut at its longest length: raise Length if its end is missing",
    "seconds": "cut at most tokens a second",
    "room": "cut where the model's room for tokens ended",
}
FLAGS = {
    "repetition": "repeated itself and was made again",
    "unheard": "as likely without the recording: perhaps made up",
}


def status(text: str, share: float | None = None) -> str:
    """A line on how things are; `share` of the work that is done draws a bar."""
    bar = "" if share is None else f'<progress max="1" value="{min(max(share, 0), 1):.3f}"></progress>'
    return f'<div class="sq-status" role="status" aria-live="polite">{_safe(text)}{bar}</div>'


def failure(sentence: str) -> str:
    """An error, which nobody can take for a text of the model."""
    said = _safe(written(sentence))
    return f'<div class="sq-failure" role="alert"><strong>That did not work.</strong> {said}</div>'


def texts(said: Sequence[Said], targets: Sequence[Target], captions: Sequence[str] = ()) -> str:
    """Segments with their times, and in each the text of every target."""
    rows = []
    for event in said:
        texts = "".join(_text(event, i, target, captions[i] if captions else None) for i, target in enumerate(targets))
        rows.append(
            f'<li><span class="sq-time">{clock(event.start)} to {clock(event.end)}</span>'
            f'<div class="sq-said">{texts}</div></li>'
        )
    return f'<ol class="sq-texts" aria-live="polite" aria-label="Texts by segment">{"".join(rows)}</ol>'


def hint(example: bool) -> str:
    """What stands where texts will stand, before there are any."""
    first = "Try an example, or bring" if example else "Bring"
    return (
        f'<div class="sq-hint"><p><strong>{first} a recording of your own.</strong></p><ol>'
        "<li>Upload any sound or video file, or record with the microphone.</li>"
        "<li>Choose the languages of the texts.</li>"
        "<li>Press <em>Translate</em>. The text appears segment by segment.</li></ol></div>"
    )


def batch_hint() -> str:
    """What stands where the report of many files will stand."""
    return (
        '<div class="sq-hint"><p><strong>Many recordings in, a zip of their texts out.</strong></p><ol>'
        "<li>Upload recordings, or a zip of them.</li>"
        "<li>For scores add a manifest: a table (.tsv) with the columns <code>audio</code> (the file's name), "
        "<code>tgt_lang</code> and <code>tgt_text</code> (the right text).</li>"
        "<li>Press <em>Translate all</em>. A file that cannot be used is named, and the others go on.</li></ol></div>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table whose first row names its columns."""
    top = "".join(f'<th scope="col">{_safe(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f'<td dir="auto">{_safe(cell)}</td>' for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="sq-table"><table><caption>{_safe(caption)}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _text(event: Said, place: int, target: Target, caption: str | None) -> str:
    line = event.lines[place]
    remarks = [note for note in (FLAGS.get(line.flag or ""), _cut(line.ended)) if note]
    note = f'<span class="sq-note">{_safe("; ".join(remarks))}</span>' if remarks else ""
    label = caption or language_name(target.language)
    said = _safe(line.text.strip()) or '<span class="sq-note">(no text)</span>'
    # A wording of the instruction is too long for a label.
    kind = "sq-asks" if caption and len(caption) > MOST_OF_A_LABEL else "sq-language"
    return (
        f'<p><span class="{kind}">{_safe(label)}</span>'
        f'<span lang="{_safe(target.language)}" dir="auto">{said}</span>{note}</p>'
    )


def _cut(ended: str) -> str | None:
    return None if ended == "end" else ENDINGS[ended]


def written(text: str) -> str:
    """A sentence as it is written: it begins with a capital, unless with the name of a file, and ends with a stop."""
    first = text.split(" ", 1)[0]
    text = text[:1].upper() + text[1:] if first.isalpha() else text
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
