"""Takes the pictures of docs/page.md: of a page that is being served, with recordings of the demo's test set.

    make demo
    sparqle page --port 7998 --model build/demo/stage2/checkpoint_last.pt --example build/demo/manifests/test_fr.tsv \
        --compare-with build/demo/published/stage2/checkpoint_last.pt
    python tests/tools/page/pictures.py http://127.0.0.1:7998/ build/demo/manifests/test_fr.tsv docs
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from browser import Page  # noqa: E402
from chromium import start  # noqa: E402

from sparqle_fairseq.data.manifest import ManifestRow, read_manifest  # noqa: E402

SIZE, PHONE = (1280, 800), (390, 844)
PAUSE = 0.8  # seconds between two sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("manifest", type=Path, help="recordings with translations into French")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.manifest)
    rows = [manifest.row(i) for i in range(4)]
    with tempfile.TemporaryDirectory() as scratch:
        driver = start(Path(scratch), None)
        try:
            take(Page(driver, arguments.url), rows, Path(scratch), arguments.folder)
        finally:
            driver.quit()


def take(page: Page, rows: list[ManifestRow], scratch: Path, folder: Path) -> None:
    morning = joined(rows, scratch / "morning.wav")

    def picture(name: str) -> None:
        page.script("document.activeElement.blur()")
        time.sleep(1)  # until nothing moves any more
        shot = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
        keep(shot, folder / f"page_{name}.png")

    page.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    page.screen(*SIZE, mobile=False)
    page.open()
    picture("first")
    page.upload(morning)
    page.choose("German")
    page.run()
    picture("translate")
    page.press("#settings button")
    page.until(lambda: page.all("#set-beam"))
    page.script("document.querySelector('#settings').scrollIntoView()")
    picture("settings")
    page.press("#settings button")
    page.tab("Look inside")
    page.until(lambda: "Choose a segment" in page.text("#look-state"))
    page.press("#look")
    page.until(lambda: page.all("#look-picture img"))
    picture("look")
    page.tab("Compare")
    page.one("#reference textarea").send_keys(" ".join(str(row.tgt_text) for row in rows))
    page.press("#compare")
    page.until(lambda: "Side by side" in page.text("#compared"))
    picture("compare")
    page.tab("Many files")
    page.one("#files input[type=file]").send_keys("\n".join(map(str, batch_of(rows, scratch))))
    page.until(lambda: len(page.all("#files tr")) >= len(rows))
    page.press("#batch")
    page.until(lambda: page.all("#batch-zip"))
    picture("batch")
    page.tab("Translate")
    page.upload(scratch / "notes.wav")
    page.run("That did not work")
    picture("error")
    page.open("dark")
    page.upload(morning)
    page.choose("German")
    page.run()
    picture("dark")
    page.screen(*PHONE)
    page.open("dark")
    page.upload(morning)
    page.run()
    halves = []
    for place in ("#head", "#start"):
        page.script(f"document.querySelector('{place}').scrollIntoView()")
        time.sleep(1)
        halves.append(Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB"))
    both = Image.new("RGB", (2 * PHONE[0] + 30, PHONE[1]), "white")
    for i, half in enumerate(halves):
        both.paste(half, (i * (PHONE[0] + 30), 0))
    keep(both, folder / "page_phone.png")


def keep(image: Image.Image, place: Path) -> None:
    image.quantize(256, dither=Image.Dither.NONE).save(place, optimize=True)


def joined(rows: list[ManifestRow], place: Path) -> Path:
    """The sentences one after the other, with pauses between them."""
    parts: list[np.ndarray] = []
    for row in rows:
        wave, rate = soundfile.read(row.audio, dtype="float32")
        parts += [wave, np.zeros(round(PAUSE * rate), np.float32)]
    soundfile.write(place, np.concatenate(parts), rate)
    return place


def batch_of(rows: list[ManifestRow], scratch: Path) -> list[Path]:
    """Recordings, a manifest of theirs, and a text that is called a recording."""
    lines = ["audio\ttgt_lang\ttgt_text", *(f"{Path(row.audio).name}\t{row.tgt_lang}\t{row.tgt_text}" for row in rows)]
    (scratch / "references.tsv").write_text("\n".join(lines) + "\n")
    (scratch / "notes.wav").write_text("These are notes and no sound.\n")
    return [*(Path(row.audio).resolve() for row in rows), scratch / "notes.wav", scratch / "references.tsv"]


if __name__ == "__main__":
    main()
