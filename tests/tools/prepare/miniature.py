"""Corpora in miniature, laid out as their owners ship them: file names, tables, archives, and audio that can be heard.

The speech is the language of tones of `tiny.py`. What each builder follows: the corpora's own scripts and papers, and
the loaders that others wrote for them; no file of a real corpus is in here.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import soundfile
import tiny

GERMAN = dict(zip(tiny.ENGLISH, ["Rot", "Blau", "Grün", "Fuchs", "Hund", "Katze", "rennt", "schläft"], strict=True))
CATALAN = dict(zip(tiny.ENGLISH, ["Vermell", "Blau", "Verd", "Guineu", "Gos", "Gat", "corre", "dorm"], strict=True))
WORDS = {"en": {word: word for word in tiny.ENGLISH}, "fr": tiny.FRENCH, "de": GERMAN, "ca": CATALAN}


def said(sentence: str, language: str) -> str:
    """A sentence of tones in a language: `Red fox runs.` and its like."""
    text = " ".join(WORDS[language][word] for word in sentence.split())
    return f"{text[:1].upper()}{text[1:]}."


def wave(sentence: str, rate: int = tiny.RATE, seed: int = 0) -> np.ndarray:
    """(S,) float32 at `rate`, which is a multiple of 16 kHz."""
    return np.repeat(tiny.tones(sentence, seed=seed), rate // tiny.RATE)


def librispeech(root: Path) -> Path:
    """`LibriSpeech/<split>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac` and one `.trans.txt` a chapter."""
    corpus = root / "LibriSpeech"
    for number, (split, count) in enumerate(
        {"train-clean-100": 12, "train-clean-360": 8, "dev-clean": 6, "test-clean": 5}.items()
    ):
        sentences = tiny.sentences(count, seed=number)
        for k, speaker in enumerate((103 + number, 1034 + number)):
            chapter = 1240 + k
            folder = corpus / split / str(speaker) / str(chapter)
            folder.mkdir(parents=True)
            lines = []
            for i, sentence in enumerate(sentences[k::2]):
                name = f"{speaker}-{chapter}-{i:04d}"
                soundfile.write(folder / f"{name}.flac", wave(sentence, seed=i), tiny.RATE)
                lines.append(f"{name} {sentence.upper()}\n")
            (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines), encoding="utf-8")
    for name in ("README.TXT", "LICENSE.TXT", "CHAPTERS.TXT", "SPEAKERS.TXT", "BOOKS.TXT"):
        (corpus / name).write_text("; LibriSpeech\n", encoding="utf-8")
    return root


def mustc(root: Path, languages: tuple[str, ...] = ("fr", "de"), rate: int = tiny.RATE) -> Path:
    """`en-<lang>/data/<split>/{wav/ted_N.wav, txt/<split>.yaml, txt/<split>.en, txt/<split>.<lang>}`."""
    for language in languages:
        for number, (split, count) in enumerate({"train": 16, "dev": 6, "tst-COMMON": 5, "tst-HE": 4}.items()):
            folder = root / f"en-{language}" / "data" / split
            (folder / "wav").mkdir(parents=True)
            (folder / "txt").mkdir()
            sentences = tiny.sentences(count, seed=10 + number)
            table, texts = [], {"en": [], language: []}
            for k in range(2):
                talk = 100 * (number + 1) + k
                pieces, place = [np.zeros(rate // 4, np.float32)], rate // 4
                for sentence in sentences[k::2]:
                    speech = wave(sentence, rate, seed=talk)
                    table.append(
                        f"- {{duration: {len(speech) / rate:.6f}, offset: {place / rate:.6f}, rW: 3, uW: 0, "
                        f"speaker_id: spk.{talk}, wav: ted_{talk}.wav}}\n"
                    )
                    for lang, lines in texts.items():
                        lines.append(said(sentence, lang) + "\n")
                    pieces += [speech, np.zeros(rate // 5, np.float32)]
                    place += len(speech) + rate // 5
                soundfile.write(folder / "wav" / f"ted_{talk}.wav", np.concatenate(pieces), rate)
            (folder / "txt" / f"{split}.yaml").write_text("".join(table), encoding="utf-8")
            for lang, lines in texts.items():
                (folder / "txt" / f"{split}.{lang}").write_text("".join(lines), encoding="utf-8")
    return root


def covost2(clips: Path, translations: Path, languages: tuple[str, ...] = ("de", "ca")) -> tuple[Path, Path]:
    """Common Voice 4's `clips/*.mp3` and tables in one folder, the packed tables of CoVoST 2 in another."""
    (clips / "clips").mkdir(parents=True)
    translations.mkdir(parents=True)
    head = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\n"
    splits = {"train": 8, "train_covost": 6, "dev": 6, "test": 5}
    lines, released = {}, {language: ["path\ttranslation\tsplit\n"] for language in languages}
    for split, count in splits.items():
        for sentence in tiny.sentences(count, seed=len(split)):
            name = f"common_voice_en_{17_250_000 + len(lines)}.mp3"
            path = clips / "clips" / name
            soundfile.write(path, wave(sentence, 48000, seed=len(lines)), 48000, format="MP3")
            lines[name] = f"{len(lines):0128x}\t{name}\t{said(sentence, 'en')}\t2\t0\t\t\t\n"
            for language, rows in released.items():
                rows.append(f"{name}\t{said(sentence, language)}\t{split}\n")
    unheard = f"{'f' * 128}\tcommon_voice_en_1.mp3\tNot translated.\t2\t1\t\t\t\n"
    (clips / "validated.tsv").write_text(head + unheard + "".join(lines.values()), encoding="utf-8")
    for name in ("train", "dev", "test", "other", "invalidated"):
        (clips / f"{name}.tsv").write_text(head, encoding="utf-8")
    for language, rows in released.items():
        table = "".join(rows).encode("utf-8")
        with tarfile.open(translations / f"covost_v2.en_{language}.tsv.tar.gz", "w:gz") as packed:
            member = tarfile.TarInfo(f"covost_v2.en_{language}.tsv")
            member.size = len(table)
            packed.addfile(member, io.BytesIO(table))
    return clips, translations


def fleurs(root: Path, folders: tuple[str, ...] = ("en_us", "fr_fr", "de_de")) -> Path:
    """`<language>/{train,dev,test}.tsv` without a header; `audio/<split>/*.wav` of the spoken language, floats."""
    draw = random.Random(5)
    for folder in folders:
        (root / folder).mkdir(parents=True)
    for number, (split, count) in enumerate({"train": 12, "dev": 6, "test": 5}.items()):
        sentences = tiny.sentences(count, seed=20 + number)
        (root / folders[0] / "audio" / split).mkdir(parents=True)
        for folder in folders:
            rows = []
            for i, sentence in enumerate(sentences):
                for reader in range(1 + (i % 3 == 0)):  # some sentences are read by two people
                    name = f"{draw.randrange(10**18, 10**19)}.wav"
                    raw, samples = (
                        said(sentence, folder[:2]),
                        len(sentence.split()) * int(tiny.WORD_SECONDS * tiny.RATE),
                    )
                    plain = raw.lower().rstrip(".")
                    letters = " | ".join(" ".join(word) for word in plain.split()) + " |"
                    gender = ("MALE", "FEMALE")[reader]
                    rows.append(f"{1000 * number + i}\t{name}\t{raw}\t{plain}\t{letters}\t{samples}\t{gender}\n")
                    if folder == folders[0]:
                        path = root / folder / "audio" / split / name
                        soundfile.write(path, wave(sentence, seed=reader), tiny.RATE, subtype="FLOAT")
            (root / folder / f"{split}.tsv").write_text("".join(rows), encoding="utf-8")
    return root


def own_audio(root: Path, count: int = 24) -> Path:
    """Recordings of several formats and rates in folders, with `<name>.txt` and `<name>.fr.txt` beside them."""
    kinds = (("wav", 48000, 2), ("flac", 16000, 1), ("mp3", 48000, 1), ("ogg", 48000, 1))
    sentences = dict.fromkeys(tiny.sentences(4 * count, seed=30))  # each text once
    for i, sentence in enumerate(list(sentences)[:count]):
        kind, rate, channels = kinds[i % len(kinds)]
        folder = root / f"session {i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        speech = np.stack([wave(sentence, rate, seed=i)] * channels, axis=1)
        soundfile.write(folder / f"take.{i:02d}.{kind}", speech, rate)
        (folder / f"take.{i:02d}.txt").write_text(said(sentence, "en") + "\n", encoding="utf-8")
        (folder / f"take.{i:02d}.fr.txt").write_text(said(sentence, "fr").replace(" ", "\n") + "\n", encoding="utf-8")
    return root


def mtedx(root: Path) -> Path:
    """`es-en/data/{train,valid,test}` as MuST-C's, with talks in flac that the table calls wav."""
    for split in ("train", "valid", "test"):
        folder = root / "es-en" / "data" / split
        (folder / "wav").mkdir(parents=True)
        (folder / "txt").mkdir()
        soundfile.write(folder / "wav" / "talk.flac", wave("red fox runs"), tiny.RATE)
        segment = "- {duration: 0.3, offset: 0.05, speaker_id: talk, wav: talk.wav}\n"
        (folder / "txt" / f"{split}.yaml").write_text(segment, encoding="utf-8")
        (folder / "txt" / f"{split}.es").write_text("El zorro rojo corre.\n", encoding="utf-8")
        (folder / "txt" / f"{split}.en").write_text("The red fox runs.\n", encoding="utf-8")
    return root


def europarl_st(root: Path) -> Path:
    """`en/audios/*.m4a` (here flac) and `en/fr/<split>/segments.{lst,en,fr}`."""
    (root / "en" / "audios").mkdir(parents=True)
    soundfile.write(root / "en" / "audios" / "en.20081119.5.flac", wave("red fox runs"), tiny.RATE)
    for split in ("train", "dev", "test"):
        folder = root / "en" / "fr" / split
        folder.mkdir(parents=True)
        for suffix, text in {
            "lst": "en.20081119.5 0.0 0.4",
            "en": "Red fox runs.",
            "fr": said("red fox runs", "fr"),
        }.items():
            (folder / f"segments.{suffix}").write_text(f"{text}\n", encoding="utf-8")
    return root


def toolkits(root: Path) -> Path:
    """A little of what NeMo, Hugging Face's audiofolder, lhotse and Kaldi have, each in a folder of its name."""
    speech = wave("red fox runs")
    seconds = len(speech) / tiny.RATE
    for split in ("train", "validation", "test"):
        paths = {name: root / name / split / "0.wav" for name in ("nemo", "audiofolder", "lhotse", "kaldi")}
        for path in paths.values():
            path.parent.mkdir(parents=True)
            soundfile.write(path, speech, tiny.RATE)
        row = {"audio_filepath": f"{split}/0.wav", "duration": seconds, "text": said("red fox runs", "fr")}
        row |= {"source_lang": "en", "target_lang": "fr"}
        (root / "nemo" / f"{split}_manifest.json").write_text(json.dumps(row) + "\n", encoding="utf-8")
        (root / "audiofolder" / split / "metadata.csv").write_text("file_name,transcription\n0.wav,Red fox runs.\n")
        source = {"type": "file", "channels": [0], "source": str(paths["lhotse"])}
        recording = {"id": "0", "sources": [source], "sampling_rate": tiny.RATE, "num_samples": len(speech)}
        recording["duration"] = seconds
        span = {"id": "s", "recording_id": "0", "start": 0.0, "duration": 0.25, "channel": 0, "text": "red"}
        cut = {"id": "c", "start": 0.0, "duration": 0.25, "channel": 0, "supervisions": [span], "recording": recording}
        with gzip.open(root / "lhotse" / f"cuts_{split}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.write(json.dumps({**cut, "type": "MonoCut"}) + "\n")
        folder = root / "kaldi" / split
        (folder / "wav.scp").write_text("u 0.wav\n")
        (folder / "text.en").write_text("u Red fox runs.\n", encoding="utf-8")
        (folder / "text.fr").write_text(f"u {said('red fox runs', 'fr')}\n", encoding="utf-8")
    return root


def everything(root: Path) -> Path:
    """All of them where the recipes' commands look for them, under another root than `/`."""
    librispeech(root / "data" / "librispeech")
    mustc(root / "data" / "mustc")
    covost2(root / "data" / "common_voice_4" / "en", root / "data" / "covost2")
    fleurs(root / "data" / "fleurs")
    own_audio(root / "data" / "recordings")
    mtedx(root / "data" / "mtedx")
    europarl_st(root / "data" / "europarl-st" / "v1.1")
    toolkits(root / "data")
    return root
