"""Make 16 kHz FLAC files and manifests (train, valid, test, control) from the unpacked prompt packages."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
from prompt_rows import SAMPLE_RATE, Row, derange_audio, table, write_manifest
from prompt_splits import group_by_text, split_prompts
from prompt_texts import clean_text, is_sentence, read_prompts, words

from sparqle_fairseq.files import written_whole

TARGETS = ("fr", "es")
TEXT_FILE = "usr/share/doc/asterisk-core-sounds-{lang}/core-sounds-{lang}.txt"
SOUNDS = "usr/share/asterisk/sounds"
LENGTH_RATIO = (
    0.4,
    2.2,
)  # words of a translation per English word; beyond it, it says more or less than the speech
LETTERS_PER_SECOND = (1.0, 22.0)  # beyond it, the recording cannot be of this text


@dataclass(frozen=True)
class Prompt:
    """One recording with its English text and its translations (language -> text)."""

    id: str
    g722: Path
    text: str
    translations: Mapping[str, str]


@dataclass(frozen=True)
class Clip:
    """A decoded recording: manifest path, length in samples at 16 kHz, level."""

    audio: str
    n_frames: int
    rms: float
    peak: float


def find_texts(unpacked: Path, lang: str) -> dict[str, str]:
    """Prompt id -> text as written in `lang`; Debian ships the list gzipped or plain, by its size."""
    plain = unpacked / TEXT_FILE.format(lang=lang)
    for path in (plain, plain.with_name(plain.name + ".gz")):
        if path.is_file():
            return read_prompts(path)
    raise ValueError(f"{plain}[.gz] is missing; run fetch.py first.")


def find_recordings(unpacked: Path) -> dict[str, Path]:
    """Prompt id -> G.722 file, from the one English voice in the package."""
    voices = sorted((unpacked / SOUNDS).glob("en_*"))
    if len(voices) != 1:
        raise ValueError(f"{unpacked / SOUNDS} holds {len(voices)} English voices, not one; run fetch.py first.")
    return {str(path.relative_to(voices[0]).with_suffix("")): path for path in voices[0].rglob("*.g722")}


def load_prompts(unpacked: Path) -> tuple[list[Prompt], Counter[str]]:
    """Prompts with a recording and a clean English text, sorted by id, and how many were left out for what."""
    english = find_texts(unpacked, "en")
    foreign = {lang: find_texts(unpacked, lang) for lang in TARGETS}
    recordings = find_recordings(unpacked)
    prompts, left_out = [], Counter[str]()
    for prompt in sorted(english):
        text = clean_text(english[prompt])
        if prompt not in recordings:
            left_out["no recording"] += 1
        elif text is None:
            left_out["a sound effect, a stage direction or a symbol in the English text"] += 1
        else:
            translations = {}
            for lang, texts in foreign.items():
                target = clean_text(texts.get(prompt, ""))
                if target is None:
                    left_out[f"{lang}: no clean translation (English only)"] += 1
                elif not LENGTH_RATIO[0] <= len(words(target)) / max(len(words(text)), 1) <= LENGTH_RATIO[1]:
                    left_out[f"{lang}: length does not fit the English text (English only)"] += 1
                else:
                    translations[lang] = target
            prompts.append(Prompt(prompt, recordings[prompt], text, translations))
    return prompts, left_out


def decode_g722(path: Path) -> np.ndarray:
    """int16 mono samples at 16 kHz; raises ValueError where there are not two samples a byte (64 kbit/s)."""
    try:
        with av.open(str(path), format="g722") as container:
            parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    except av.FFmpegError as error:
        raise ValueError(f"{path} is not a readable G.722 file ({error}); fetch the package again.") from error
    samples = np.concatenate(parts) if parts else np.empty(0, np.int16)
    if samples.dtype != np.int16 or len(samples) != 2 * path.stat().st_size or not len(samples):
        raise ValueError(
            f"{path}: {len(samples)} samples from {path.stat().st_size} bytes instead of two a byte; "
            "fetch the package again."
        )
    return samples


def decode_all(prompts: Sequence[Prompt], build: Path) -> dict[str, Clip]:
    """Write `build/audio/ID.flac` (16 kHz, mono, 16 bit) for every prompt; each appears when whole."""
    clips = {}
    for number, prompt in enumerate(prompts, 1):
        samples = decode_g722(prompt.g722)
        audio = f"audio/{prompt.id}.flac"
        final = build / audio
        final.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(final) as file:
            soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        level = samples / 32768
        clips[prompt.id] = Clip(audio, len(samples), float(np.sqrt(np.mean(level**2))), float(np.abs(level).max()))
        if number % 100 == 0 or number == len(prompts):
            print(f"decoded {number}/{len(prompts)}", flush=True)
    return clips


def pace(prompt: Prompt, clip: Clip) -> float:
    """Letters and digits of the text per second of the recording."""
    return sum(map(str.isalnum, prompt.text)) / (clip.n_frames / SAMPLE_RATE)


def make_row(prompt: Prompt, clip: Clip, lang: str) -> Row:
    """The manifest row of a prompt with its transcript (`lang` "en") or its translation."""
    target = prompt.text if lang == "en" else prompt.translations[lang]
    task = "transcription" if lang == "en" else "translation"
    return Row(f"{prompt.id}.{lang}", clip.audio, clip.n_frames, prompt.text, target, "en", lang, task)


def build_manifests(
    prompts: Sequence[Prompt],
    clips: Mapping[str, Clip],
    *,
    min_words: int = 4,
    max_seconds: float = 12.0,
    n_test: int = 40,
    n_valid: int = 20,
    seed: int = 1,
) -> dict[str, list[Row]]:
    """Manifest name -> rows.

    Test and valid prompts are sentences with both translations and a text of their own, so that the three test
    sets are the same utterances. Training has all others: every prompt in stage 1, the sentences in stage 2.
    """
    by_id = {
        prompt.id: prompt
        for prompt in prompts
        if clips[prompt.id].n_frames <= max_seconds * SAMPLE_RATE
        and LETTERS_PER_SECOND[0] <= pace(prompt, clips[prompt.id]) <= LETTERS_PER_SECOND[1]
    }
    texts = {
        prompt.id: [
            ("en", *words(prompt.text)),
            *((lang, *words(t)) for lang, t in prompt.translations.items()),
        ]
        for prompt in by_id.values()
    }
    sentences = {prompt.id for prompt in by_id.values() if is_sentence(prompt.text, min_words)}
    eligible = {prompt for prompt in sentences if set(by_id[prompt].translations) == set(TARGETS)}
    split = split_prompts(group_by_text(texts), eligible, n_test, n_valid, seed)

    def rows(ids: Iterable[str], lang: str) -> list[Row]:
        return [make_row(by_id[i], clips[i], lang) for i in ids if lang == "en" or lang in by_id[i].translations]

    manifests = {}
    for name in ("train", "valid"):
        manifests[f"{name}_stage1"] = rows(split[name], "en")
        ids = [prompt for prompt in split[name] if prompt in sentences]
        manifests[f"{name}_stage2"] = [row for lang in ("en", *TARGETS) for row in rows(ids, lang)]
    for name, lang in (("asr", "en"), *zip(TARGETS, TARGETS, strict=True)):
        manifests[f"test_{name}"] = rows(split["test"], lang)
        manifests[f"test_{name}_shuffled"] = derange_audio(manifests[f"test_{name}"], seed)
    return manifests


def levels(prompts: Sequence[Prompt], clips: Mapping[str, Clip]) -> str:
    """What a listener would check first: lengths, loudness, clipping, pace of speech."""

    def spread(name: str, values: Iterable[float], unit: str) -> str:
        low, middle, high = np.percentile(list(values), [0, 50, 100])
        return f"{name} {low:.2f} / {middle:.2f} / {high:.2f} {unit}"

    heard = [clips[prompt.id] for prompt in prompts]
    parts = [
        spread("length", (clip.n_frames / SAMPLE_RATE for clip in heard), "s"),
        spread("RMS", (clip.rms for clip in heard), "of full scale"),
        spread("peak", (clip.peak for clip in heard), "of full scale"),
        spread("pace", (pace(prompt, clips[prompt.id]) for prompt in prompts), "letters/s"),
    ]
    return f"{len(heard)} clips, least / median / most: " + "; ".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build/voice_prompts"), help="fetch.py's folder")
    parser.add_argument("--min-words", type=int, default=4, help="English words of a sentence (stage 2, valid, test)")
    parser.add_argument("--max-seconds", type=float, default=12.0, help="leave longer recordings out")
    parser.add_argument("--test", type=int, default=40, help="test prompts")
    parser.add_argument("--valid", type=int, default=20, help="valid prompts")
    parser.add_argument("--seed", type=int, default=1, help="seed of the split and of the shuffled control")
    args = parser.parse_args(argv)
    try:
        prompts, left_out = load_prompts(args.build / "unpacked")
        clips = decode_all(prompts, args.build)
        manifests = build_manifests(
            prompts,
            clips,
            min_words=args.min_words,
            max_seconds=args.max_seconds,
            n_test=args.test,
            n_valid=args.valid,
            seed=args.seed,
        )
        for name, rows in manifests.items():
            write_manifest(args.build / f"{name}.tsv", rows)
    except (ValueError, OSError) as error:
        sys.exit(f"prepare: {error}")
    used = {row.id.rpartition(".")[0] for row in manifests["train_stage1"] + manifests["valid_stage1"]}
    used |= {row.id.rpartition(".")[0] for row in manifests["test_asr"]}
    left_out[f"longer than {args.max_seconds:g} s, or text and length do not fit"] = len(prompts) - len(used)
    print(levels([prompt for prompt in prompts if prompt.id in used], clips))
    for reason, count in sorted(left_out.items()):
        print(f"left out, {reason}: {count}")
    print(table(manifests))


if __name__ == "__main__":
    main()
