"""How far from the truth are the times of words? On the demo's recordings, whose synthesiser knows when it says what.

Each sentence is spoken once more, with the durations of its phonemes, which the synthesiser's network has inside; the
samples must be those of the recording. The words' times come from the queries of a model of stage 1 by `ctc` or
`llm-ctc` (`sparqle_fairseq/generate/word_times.py`). Beside them stand those of a guess that hears nothing: words of
equal length, from the first loud sample to the last.

    pip install onnx
    python benchmarks/word_times.py build/demo/stage1/checkpoint_last.pt build/demo/manifests/test_asr.tsv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "demo"))

from speech import SAMPLE_RATE, Uttered, utter

from sparqle_fairseq import register
from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.dataset import to_device
from sparqle_fairseq.errors import SparqleError

DURATIONS = "/Clip_output_0"  # of the network of hibari-tts 0.2: frames of each phoneme
LOUD = 0.01  # of full scale

Span = tuple[float, float]  # seconds


class Timed:
    """The demo's voice, and the durations of its phonemes."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError:
            sys.exit("the durations are inside the synthesiser's network; pip install onnx")
        import onnxruntime
        from hibari import Hibari

        self.voice = Hibari(threads=1)
        model = onnx.load(self.voice.model_path)
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(DURATIONS))
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def words(self, name: str, text: str, seed: int) -> tuple[Uttered, list[Span]]:
        """What is said, and when each word of it is: from its first phoneme's begin to its last one's end."""
        said = utter(self.voice, name, text, seed)
        (phonemes,) = self.voice.phonemize(text)  # one sentence
        feed = {"ids": np.array([self.voice.ids(phonemes)]), "speed": np.array([said.speed], np.float32)}
        frames = self.session.run([DURATIONS], feed)[0].reshape(-1)
        whole = len(self.voice.from_ids(feed["ids"][0].tolist(), said.speed)) / self.voice.sample_rate
        edges = np.concatenate([[0], np.cumsum(frames)]) * whole / frames.sum() - said.cut / SAMPLE_RATE
        spans: list[Span] = []
        open_ = False
        known = [sign for sign in phonemes if sign in self.voice.vocab]
        for i, sign in enumerate(known, 1):  # the first is silence
            spoken = sign.isalnum() or sign not in ' .,;:!?—…"()“”'
            if sign == " ":
                open_ = False
            elif spoken and not open_:
                spans.append((float(edges[i]), float(edges[i + 1])))
                open_ = True
            elif spoken:
                spans[-1] = (spans[-1][0], float(edges[i + 1]))
        # The last phoneme's duration holds the silence behind the sentence.
        end = (int(np.flatnonzero(np.abs(said.wave) > LOUD)[-1]) + 1) / SAMPLE_RATE
        spans[-1] = (spans[-1][0], min(spans[-1][1], end))
        return said, spans


def even(samples: np.ndarray, count: int) -> list[float]:
    """Middles of `count` words of equal length between the first loud sample and the last."""
    loud = np.flatnonzero(np.abs(samples) > LOUD) / SAMPLE_RATE
    return [float(loud[0] + (loud[-1] - loud[0]) * (i + 0.5) / count) for i in range(count)]


def row(name: str, errors: Sequence[float]) -> str:
    """Mean (late is positive), mean and median of the absolute values, what 95 % of them are below, in ms."""
    values = 1000 * np.array(errors)
    size = np.abs(values)
    numbers = (values.mean(), size.mean(), np.median(size), np.quantile(size, 0.95))
    return f"{name:<28}{len(values):>6}" + "".join(f"{number:>+9.0f}" if i == 0 else f"{number:>9.0f}"
                                                    for i, number in enumerate(numbers))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="checkpoint of stage 1")
    parser.add_argument("manifest", type=Path, help="of the demo: ids are s00001-en, audio is what speech.py wrote")
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of speech.py")
    parser.add_argument("--speech-encoder", help="where the encoder is now, if it has moved")
    args = parser.parse_args()
    register()
    from sparqle_fairseq.generate.word_times import word_times
    from sparqle_fairseq.tasks.loading import load_rows, load_trained

    trained = load_trained(args.model, speech_encoder=args.speech_encoder, cpu=True)
    dataset: Any = load_rows(trained, args.manifest)
    timed = Timed()
    own: list[float] = []
    inside = 0
    guessed: list[float] = []
    left = 0
    for i in range(min(args.utterances, len(dataset))):
        manifest_row = dataset.row(i)
        text = manifest_row.src_text
        said, spans = timed.words(manifest_row.id.rsplit("-", 1)[0], text, args.seed)
        samples = read_audio(manifest_row.audio)
        if len(samples) != len(said.wave) or np.abs(samples - np.clip(said.wave, -1, 1)).max() > 1e-4:
            raise SparqleError(f"{manifest_row.audio} is not what speech.py says for seed {args.seed}; give its seed")
        sample = to_device(dataset.collater([dataset[i]]), "cpu")
        (found,) = word_times(trained.model, sample["net_input"], [text])
        if found is None or len(found) != len(spans):
            left += 1
            continue
        middles = [(begin + end) / 2 for begin, end in spans]
        own += [word.seconds - middle for word, middle in zip(found, middles, strict=True)]
        inside += sum(begin <= word.seconds <= end for word, (begin, end) in zip(found, spans, strict=True))
        guessed += [guess - middle for guess, middle in zip(even(samples, len(spans)), middles, strict=True)]
    print(f"middles of words, ms; {left} utterances left out (another number of words, or too few queries)")
    print(f"{'':<28}{'words':>6}{'mean':>9}{'mean |e|':>9}{'median':>9}{'95 % <':>9}")
    print(row("the model's queries", own))
    print(row("words of equal length", guessed))
    print(f"inside their word: {100 * inside / max(1, len(own)):.0f} %")


if __name__ == "__main__":
    main()
