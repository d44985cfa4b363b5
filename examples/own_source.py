"""A source of one's own: all faces in one folder, the identity in the file's name as in ``ada_0003.jpg``.

proxylesskd distill … data.train=python:own_source:Flat:flat-faces
"""

from pathlib import Path

import numpy as np


class Flat:
    """Everything that reads faces asks for these five things; images are decoded elsewhere, as they are needed."""

    def __init__(self, folder: str) -> None:
        self.files = sorted(Path(folder).glob("*.jpg"))
        names = [file.stem.rpartition("_")[0] for file in self.files]
        self.identities = sorted(set(names))
        self.labels = np.array([self.identities.index(name) for name in names], dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of an image."""
        return self.files[index].read_bytes(), int(self.labels[index])

    def name(self, index: int) -> str:
        """Return what a person would call it."""
        return self.files[index].name
