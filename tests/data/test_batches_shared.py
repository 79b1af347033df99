"""Loader processes share a large manifest: what each holds for itself is a small part of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from many_rows import save_many
from torch.utils.data import DataLoader, Dataset

from sparqle_fairseq.data.manifest import Manifest, read_manifest


class Rows(Dataset):
    """Item k: reads 5,000 rows all over the manifest, then says which process holds how much."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[int, int, int]:
        for i in range(index, len(self.manifest), 200):
            self.manifest.row(i)
        memory = Path("/proc/self/smaps_rollup").read_text()
        pss, private = (re.search(rf"{name}:\s+(\d+) kB", memory) for name in ("Pss", "Private_Dirty"))
        assert pss is not None
        assert private is not None
        return os.getpid(), int(pss[1]) * 1024, int(private[1]) * 1024


@pytest.mark.long
def test_two_loaders_of_a_million_rows_share_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "m.tsv"
    size = save_many(path, 1_000_000)
    manifest = read_manifest(path)
    loader = DataLoader(Rows(manifest), batch_size=None, num_workers=2)
    found = {pid: (pss, private) for pid, pss, private in loader}  # of each process the last item
    assert len(found) == 2
    with capsys.disabled():
        for pss, private in found.values():
            print(
                f"\nmanifest of {size / 1e6:.0f} MB, a loader: {pss / 1e6:.0f} MB PSS, {private / 1e6:.0f} MB its own"
            )
    for _, private in found.values():
        assert private < 0.3 * size
