"""What the ablations train and score on: the demo's corpus, or recordings of human speech."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), *(str(HERE.parent / name) for name in ("demo", "whisper_encoder", "pretrained_llm"))]

import corpus  # noqa: E402
import data as demo  # noqa: E402
import recordings  # noqa: E402
import setting  # noqa: E402
from pipeline import Command, CommandFailed, run_together, tool  # noqa: E402
from recipe import Recipe, tokenizer  # noqa: E402

from sparqle_fairseq.data.prompts import language_name  # noqa: E402

# Folders of the language models: an ordinary one; the demo's, which has met text spread out as queries come; and one
# that others have trained.
LLMS = {"plain": "llm_plain", "demo": "llm", "smollm2": "smollm2"}


def own_answers(llm: str) -> str:
    """The manifest of what an LLM writes on reading the transcripts."""
    return f"train_{LLMS[llm]}_answers"


def seconds_of_own_answers(folder: Path, llm: str) -> float:
    """CPU seconds that the LLM took to write them, as the command said."""
    log = folder / "logs" / f"{own_answers(llm)}.log"
    return float(re.findall(r"([\d.]+) CPU seconds of the LLM", log.read_text(encoding="utf-8"))[-1])


class Demo:
    """Synthetic speech, translated from English into French, and into languages that no training has."""

    groups = (
        "objectives",
        "losses",
        "shape",
        "best-shape",
        "adapters",
        "regression",
        "windows",
        "encoder",
        "tasks",
        "stage2",
        "end",
        "best",
    )
    llms = ("plain", "demo")
    # Score -> the split, the metric and the title of its column.
    scores: Mapping[str, tuple[str, str, str]] = {
        **{code: (f"test_{code}", "bleu", f"{language_name(code)} BLEU") for code in corpus.LANGUAGES},
        **{
            f"valid_{code}": (f"valid_{code}", "bleu", f"{language_name(code)} BLEU, valid")
            for code in corpus.ZERO_SHOT
        },
        "shuffled": ("test_fr_shuffled", "bleu", "French, shuffled audio"),
        "wer": ("test_asr", "wer", "WER"),
    }
    # Score that is the mean of others -> those, and its title. They get a table of their own. By the one of valid, and
    # not by test's, it is said which arm is the best.
    means: Mapping[str, tuple[tuple[str, ...], str]] = {
        "zero": (corpus.ZERO_SHOT, "zero-shot BLEU, mean"),
        "valid": (tuple(f"valid_{code}" for code in corpus.ZERO_SHOT), "zero-shot, valid"),
    }
    shape: tuple[object, ...] = ("--query-start", "monotonic")
    stage2: tuple[object, ...] = ()  # options that stage 2 of every arm has
    generation: tuple[object, ...] = ()  # and generation

    def prepare(self, folder: Path, seed: int, llm: str, started: float) -> None:
        """Everything that training starts from, where it is not there yet."""
        model = demo.demo_llm(folder, seed) if llm == "demo" else demo.plain_llm(folder, seed, LLMS[llm])
        if not (folder / "features" / "valid_stage2.tsv").exists():
            demo.prepare(folder, seed, started, model)
        missing = [split for split, _, _ in self.scores.values() if not (self.test(folder) / f"{split}.tsv").exists()]
        if missing:
            raise CommandFailed(
                f"{folder} has no {', '.join(missing)}: an earlier demo made it; remove it, or give another --out"
            )
        if not (folder / LLMS[llm] / "config.json").exists():
            run_together([model], started)
        if not (folder / "features" / f"{own_answers(llm)}.tsv").exists():
            run_together([self._own_answers(folder, llm)], started)

    def _own_answers(self, folder: Path, llm: str) -> Command:
        """The LLM reads the training's transcripts, and writes what it would answer in every language."""
        features = folder / "features"
        words = [
            tool("sparqle"), "prepare", "llm-targets", features / "train_stage1.tsv", "--llm", folder / LLMS[llm],
            "--llm-dtype", "fp32", "--to", ",".join(corpus.LANGUAGES), "--with-transcriptions", "--cpu",
            "--batch-size", 64, "--out", features / f"{own_answers(llm)}.tsv",
        ]  # fmt: skip
        return Command(own_answers(llm), words, folder / "logs" / f"{own_answers(llm)}.log")

    def recipe(self, folder: Path, seed: int) -> Recipe:
        """Where these things are."""
        return demo.demo_recipe(folder, seed)

    def test(self, folder: Path) -> Path:
        """Folder of the test manifests."""
        return folder / "manifests"


class Human:
    """Whisper's encoder on human and synthetic speech (recipe `whisper_encoder`), transcribed; tested on the human."""

    groups: tuple[str, ...] = ("objectives",)
    llms: tuple[str, ...] = ("plain",)
    scores: Mapping[str, tuple[str, str, str]] = {
        "wer": (recordings.TEST, "wer", "WER"),
        "shuffled": (recordings.CONTROL, "wer", "WER, shuffled audio"),
    }
    means: Mapping[str, tuple[tuple[str, ...], str]] = {}
    # A query for 80 ms, as many as a recording is long: announcements take 0.6 to 11 seconds.
    shape: tuple[object, ...] = (
        "--query-start", "monotonic", "--query-window-seconds", 0.96, "--queries-per-window", 12,
    )  # fmt: skip
    stage2: tuple[object, ...] = ()
    generation: tuple[object, ...] = ()
    vocabulary = 2000  # of the language model
    word_pieces = 600  # of the transcripts' tokenizer

    def prepare(self, folder: Path, seed: int, llm: str, started: float) -> None:
        self._recordings(folder, seed, started)
        if not (folder / LLMS[llm] / "config.json").exists():
            words = [sys.executable, Path(recordings.__file__).with_name("text.py"), "--build", folder, "--out", folder]
            recipe = self.recipe(folder, seed)
            run_together([Command("text", [*words, "--seed", seed], recipe.log("text"))], started)
            model = demo.plain_llm(folder, seed, LLMS[llm], steps=1800)  # one language
            run_together([Command(model.name, [*model.words, "--vocab", self.vocabulary], model.log)], started)

    def _recordings(self, folder: Path, seed: int, started: float) -> None:
        """Recordings, what the encoder makes of them, manifests of both stages, and the transcripts' tokenizer."""
        recordings.prepare(folder, seed, started)
        recipe = self.recipe(folder, seed)
        if not (recipe.features / f"{recordings.MANIFESTS[-1]}.tsv").exists():
            run_together([recipe.extract(recordings.MANIFESTS)], started)
        for split in ("train", "valid"):
            recordings.with_answers(recipe.features / f"{split}_stage1.tsv", recipe.features / f"{split}_stage2.tsv")
        if not recipe.tokenizer.exists():
            run_together([tokenizer(recipe, self.word_pieces)], started)

    def recipe(self, folder: Path, seed: int) -> Recipe:
        return Recipe(
            out=folder,
            audio=folder / "manifests",
            features=folder / "features",
            encoder=folder / "whisper-base",
            llm=folder / LLMS[self.llms[0]],
            tokenizer=folder / "tokenizer",
            stage1_updates=0,
            stage2_updates=0,
            seed=seed,
        )

    def test(self, folder: Path) -> Path:
        return folder / "prompts"  # the same recordings, with the answers of stage 2


class Pretrained(Human):
    """The same recordings behind an LLM that others have trained (recipe `pretrained_llm`), with its stage 2."""

    groups = ("pretrained",)
    llms = ("smollm2",)
    scores: Mapping[str, tuple[str, str, str]] = {**Human.scores, "valid": ("valid_asr", "wer", "WER, valid")}
    shape = ()
    stage2 = (*setting.STAGE2, "--prompt-templates", setting.INSTRUCTIONS)
    generation = ("--beam", 1)

    def prepare(self, folder: Path, seed: int, llm: str, started: float) -> None:
        self._recordings(folder, seed, started)
        recordings.with_answers(folder / "manifests" / "valid_stage1.tsv", folder / "prompts" / "valid_asr.tsv")
        if not (link := folder / LLMS[llm]).exists():
            link.symlink_to(setting.smollm2(folder.parent / "llm", started).resolve())


CORPORA: dict[str, Demo | Human] = {"demo": Demo(), "human": Human(), "pretrained": Pretrained()}
