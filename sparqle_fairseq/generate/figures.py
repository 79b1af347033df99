"""Pictures of what `inspection` finds: one figure an utterance, the layers' maps, the similarities of a batch."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import written_whole
from sparqle_fairseq.generate.inspection import Look, Similarities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 12.0  # inches
DPI = 100
MAP = "magma"
LOUDEST_DB, QUIETEST_DB = 0.0, -80.0
TOKENS_WITH_LABEL = 45  # more would not be legible
LABEL_LENGTH = 44


def require_matplotlib() -> None:
    """Raises `SparqleError` where pictures cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SparqleError("pictures need matplotlib, which is not installed; pip install 'sparqle-fairseq[plots]'")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it describes every font to a log that wants details


def utterance_figure(look: Look, similarities: Similarities | None = None) -> Figure:
    """Speech, queries and tokens of one utterance under one another, on one time axis; similarities below."""
    panels: list[tuple[float, Callable[[Any, Look], None]]] = [(2.6, _draw_queries)]
    if look.tokens:
        panels.append((0.7 + 0.19 * min(len(look.tokens), TOKENS_WITH_LABEL), _draw_tokens))
    speech = [(1.5, _draw_features)] if look.waveform is None else [(1.0, _draw_waveform), (1.9, _draw_spectrogram)]
    panels = [*speech, *panels]
    heights = [height for height, _ in panels]
    own = sum(heights) + 1.4
    with _plain_text():
        below = 0.0 if similarities is None else _similarity_height(similarities)
        figure = _figure(own + below)
        part: Any = figure
        if similarities is not None:
            parts: Any = figure.subfigures(2, 1, height_ratios=[own, below])
            part, lower = parts
            _draw_similarities(lower, similarities)
        axes = part.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        for axis, (_, draw) in zip(axes, panels, strict=True):
            draw(axis, look)
        axes[-1].set_xlabel("time (seconds)")
        axes[-1].set_xlim(0, look.seconds)
        lines = [look.name, f"hypothesis: {look.hypothesis or '(no text)'}"]
        if look.reference:
            lines.append(f"reference: {look.reference}")
        part.suptitle("\n".join(_shortened(line, 130) for line in lines), fontsize=11, ha="left", x=0.01)
        return figure


def layers_figure(look: Look) -> Figure:
    """The queries' map of each layer that reads speech."""
    with _plain_text():
        columns = min(3, len(look.layers))
        rows = -(-len(look.layers) // columns)
        figure = _figure(0.6 + 2.8 * rows)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        for axis in axes[len(look.layers) :]:
            axis.set_visible(False)
        for i, (axis, weights) in enumerate(zip(axes[: len(look.layers)], look.layers, strict=True)):
            _draw_map(axis, weights, look, f"reading layer {i + 1} of {len(look.layers)}")
            axis.set_xlabel("time (seconds)")
        figure.suptitle(f"{look.name}: which frames each query attends to, layer by layer", fontsize=11)
        return figure


def similarity_figure(similarities: Similarities) -> Figure:
    """Recordings against transcripts, stage 1."""
    with _plain_text():
        figure = _figure(_similarity_height(similarities))
        _draw_similarities(figure, similarities)
        return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG. Raises `SparqleError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        figure.savefig(file, dpi=DPI, format="png")


def pixels(figure: Figure) -> np.ndarray:
    """(height, width, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _figure(height: float) -> Figure:
    # Figure and not pyplot: no global state, no display, and nothing stays in memory when the figure is dropped.
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")


def _plain_text() -> Any:
    import matplotlib

    return matplotlib.rc_context({"text.parse_math": False, "font.size": 10})  # a "$" in a text is a dollar


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _draw_waveform(axis: Any, look: Look) -> None:
    assert look.waveform is not None
    # One line from the lowest to the highest sample of each column, so that no peak is lost.
    hop = max(1, len(look.waveform) // 2000)
    parts = look.waveform[: len(look.waveform) // hop * hop].reshape(-1, hop)
    seconds = (np.arange(len(parts)) + 0.5) * hop / look.sample_rate
    axis.fill_between(seconds, parts.min(axis=1), parts.max(axis=1), linewidth=0.4, color="#30506e")
    axis.set_ylabel("amplitude")
    axis.set_title("waveform", loc="left", fontsize=10)


def _draw_spectrogram(axis: Any, look: Look) -> None:
    assert look.waveform is not None
    window, hop = int(0.025 * look.sample_rate), int(0.01 * look.sample_rate)
    wave = torch.from_numpy(np.pad(look.waveform, window))
    power = torch.stft(
        wave, 512 if window <= 512 else 2048, hop, window, torch.hann_window(window), return_complex=True
    )
    decibels = 20 * (power.abs() + 1e-9).log10()
    picture = (decibels - decibels.max()).numpy()
    # The first column's window is centred on the start of the padding.
    edges = (-window - hop / 2) / look.sample_rate, (-window + (picture.shape[1] - 0.5) * hop) / look.sample_rate
    axis.imshow(
        picture, origin="lower", aspect="auto", cmap=MAP, vmin=QUIETEST_DB, vmax=LOUDEST_DB, interpolation="nearest",
        extent=(*edges, 0, look.sample_rate / 2000),
    )  # fmt: skip
    axis.set_ylabel("kHz")
    axis.set_title("spectrogram (80 dB)", loc="left", fontsize=10)


def _draw_features(axis: Any, look: Look) -> None:
    low, high = np.percentile(look.features, [2, 98])
    axis.imshow(
        look.features.T, origin="lower", aspect="auto", cmap=MAP, vmin=low, vmax=high, interpolation="nearest",
        extent=(0, len(look.features) / look.frame_rate, 0, look.features.shape[1]),
    )  # fmt: skip
    axis.set_ylabel("dimension")
    axis.set_title("encoder features (this manifest has no waveform)", loc="left", fontsize=10)


def _draw_queries(axis: Any, look: Look) -> None:
    _draw_map(axis, look.queries, look, "which frames each query attends to (mean over heads and layers)")


def _draw_map(axis: Any, weights: np.ndarray, look: Look, title: str) -> None:
    """Queries (Q, T) over time, as multiples of what every frame would get from a query without preference."""
    count, frames = weights.shape
    image = axis.imshow(
        weights * frames, origin="upper", aspect="auto", cmap=MAP, vmin=0, interpolation="nearest",
        vmax=np.percentile(weights * frames, 99.5), extent=(0, frames / look.reading_rate, count - 0.5, -0.5),
    )  # fmt: skip
    axis.set_ylabel("query")
    axis.set_title(title, loc="left", fontsize=10)
    axis.figure.colorbar(image, ax=axis, pad=0.01, fraction=0.05, label="times uniform")
    axis.set_facecolor("black")  # the recording may end a little after its last frame


def _draw_tokens(axis: Any, look: Look) -> None:
    frames = look.token_excess.shape[1]
    strongest = look.token_excess.max(axis=1, keepdims=True)
    axis.imshow(
        look.token_excess / np.maximum(strongest, 1e-12), origin="upper", aspect="auto", cmap=MAP,
        interpolation="nearest", extent=(0, frames / look.reading_rate, len(look.tokens) - 0.5, -0.5),
    )  # fmt: skip
    axis.set_facecolor("black")
    axis.plot(look.token_seconds, range(len(look.tokens)), "o", color="#4ad8e8", markersize=5, markeredgecolor="black")
    if len(look.tokens) <= TOKENS_WITH_LABEL:
        axis.set_yticks(range(len(look.tokens)), [_shortened(token, 16) or "·" for token in look.tokens], fontsize=9)
    else:
        axis.set_ylabel("token")
    axis.set_title("what each token reads more of than the others (dot: its centre)", loc="left", fontsize=10)


def _similarity_height(similarities: Similarities) -> float:
    return 1.6 + 0.38 * len(similarities.names)


def _draw_similarities(part: Any, similarities: Similarities) -> None:
    count = len(similarities.names)
    axis = part.subplots()
    image = axis.imshow(similarities.cosines, cmap=MAP, aspect="auto", interpolation="nearest")
    middle = (similarities.cosines.min() + similarities.cosines.max()) / 2
    for (i, j), cosine in np.ndenumerate(similarities.cosines):
        colour = "black" if cosine > middle else "white"
        weight = "bold" if j == similarities.cosines[i].argmax() else "normal"
        if count <= 16:
            axis.text(j, i, f"{cosine:.2f}", ha="center", va="center", fontsize=8, color=colour, weight=weight)
    axis.set_xticks(range(count), range(1, count + 1))
    labels = [f"{_shortened(text, LABEL_LENGTH)}  {i}" for i, text in enumerate(similarities.texts, 1)]
    axis.set_yticks(range(count), labels, fontsize=9)
    axis.set_xlabel("transcript")
    axis.set_ylabel("recording of")
    part.colorbar(image, ax=axis, pad=0.01, fraction=0.05, label="cosine")
    title = f"speech-text similarity; own transcript is the most similar (bold) for {similarities.found:.0%}"
    axis.set_title(title, loc="left", fontsize=10)
