"""The example of docs/encoders.md: taken from the page, trained with, and held to what encoders promise."""

from __future__ import annotations

import re
import shlex

import torch
from commands import ROOT, command, script


def test_an_encoder_of_your_own_is_one_class_in_one_file(world, tmp_path):
    page = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    user_dir = tmp_path / "my_encoders"
    user_dir.mkdir()
    (user_dir / "__init__.py").write_text(code[1], encoding="utf-8")

    shell = re.search(r"```sh\n(fairseq-train .*?)```", page, re.DOTALL)
    assert shell is not None
    places = {"data": world.data, "my_encoders": user_dir, "tokenizer": world.tokenizer}
    name, *arguments = [places.get(word, word) for word in shlex.split(shell[1].replace("\\\n", " "))]
    command(name, *arguments, "--save-dir", tmp_path / "out", "--cpu", "--num-workers", 0)
    checkpoint = tmp_path / "out" / "checkpoint_last.pt"
    state = torch.load(checkpoint, weights_only=True)["model"]
    assert state["adapter.qformer.speech_norm.weight"].shape == (40,)
    promise = f"""
import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT / "tests")!r}]
import my_encoders
from sparqle_fairseq.models.encoders import EncoderError, load_speech_encoder
from waves import close, padded, speech
encoder = load_speech_encoder("logmel:40")
waves = [speech(n, n) for n in (4000, 400, 1777)]
values, mask = encoder(*padded(waves, extra=90, fill=float("nan")))
for row, wave in enumerate(waves):
    close(values[row][~mask[row]], encoder(wave[None]).values[0])
try:
    load_speech_encoder("logmel:many")
except EncoderError as error:
    assert "1 to 128" in str(error)
else:
    raise SystemExit("a bad number was taken")
"""
    done = script(promise)
    assert not done.returncode, done.stderr[-3000:]
