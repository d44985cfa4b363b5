"""From the bytes of one photo to the file of its face; and many of them at once, in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from proxylesskd.data.decode import encode_jpeg, encode_png
from proxylesskd.data.formats.folder import read_file
from proxylesskd.errors import CorruptImageError, UserError
from proxylesskd.photos.faces import Detector
from proxylesskd.photos.folder_state import replace_file
from proxylesskd.photos.landmarks import Found
from proxylesskd.photos.photo import pixels_in, read_photo
from proxylesskd.photos.place import UNREADABLE, UNUSABLE, Leftover, given_face, place
from proxylesskd.photos.plan import Photo
from proxylesskd.photos.transform import Pixels, Points, crop, require_opencv

Item = TypeVar("Item")
Result = TypeVar("Result")
# Of photos larger than this one at a time is held: a camera's largest take a gigabyte while they are decoded.
LARGE = 24_000_000


class Cutter:
    """Cuts the faces of photos out and writes them; threads may share it.

    Args:
        photos: the photos' folder.
        out: the faces' folder.
        detect: finds faces, or None.
        given: the user's landmarks by path.
        which: the face that is meant.
        size: height and width of a face.
        quality: of the JPEG, None for PNG.
    """

    def __init__(
        self,
        photos: Path,
        out: Path,
        *,
        detect: Detector | None,
        given: Mapping[str, Points],
        which: str,
        size: int,
        quality: int | None,
    ) -> None:
        self.photos, self.out = photos, out
        self.detect, self.given, self.which = detect, given, which
        self.size, self.quality = size, quality
        self._large = threading.Lock()

    def __call__(self, photo: Photo) -> Found | Leftover:
        """Find the face of a photo and write it; where there is none now, an earlier run's face goes."""
        found = self._with_pixels(
            photo, lambda pixels: place(photo.path, pixels, given=self.given, detect=self.detect, which=self.which)
        )
        if isinstance(found, Leftover):
            (self.out / photo.target).unlink(missing_ok=True)
        return found

    def at(self, photo: Photo, shares: Points) -> Found | Leftover:
        """Write what stands at a typical place ``[5, 2]``, in shares of the photo's width and height."""
        return self._with_pixels(photo, lambda pixels: _typical(photo.path, pixels, shares))

    def _with_pixels(self, photo: Photo, find: Callable[[Pixels], Found | Leftover]) -> Found | Leftover:
        try:
            data = read_file(self.photos / photo.path)
            with self._room_for(pixels_in(data)):
                pixels = read_photo(data)
                found = find(pixels)
                return found if isinstance(found, Leftover) else self._write(photo, pixels, found)
        except CorruptImageError as error:
            return Leftover(photo.path, UNREADABLE, str(error))

    def _room_for(self, pixels: int) -> AbstractContextManager[object]:
        return self._large if pixels > LARGE else nullcontext()

    def _write(self, photo: Photo, pixels: Pixels, found: Found) -> Found | Leftover:
        try:
            face = crop(pixels, found.landmarks, self.size, antialias=True).transpose(2, 0, 1)  # [3, size, size]
        except UserError as error:
            return Leftover(photo.path, UNUSABLE, str(error), found.size)
        replace_file(
            self.out / photo.target, encode_png(face) if self.quality is None else encode_jpeg(face, self.quality)
        )
        return found


def _typical(path: str, pixels: Pixels, shares: Points) -> Found | Leftover:
    height, width = pixels.shape[:2]
    return given_face(path, (height, width), shares * (width, height), "typical")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield ``work`` of every item in their order, on so many threads; few are begun before they are asked for."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for begun in waiting:
                begun.cancel()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let OpenCV use one thread for each of ours."""
    cv2 = require_opencv()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
