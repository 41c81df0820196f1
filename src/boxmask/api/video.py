"""Reads and writes videos frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from boxmask.errors import UserError

Picture = NDArray[np.uint8]

ENCODERS = ("libx264", "libopenh264", "mpeg4")
"""H.264 where the system has it."""

DEFAULT_RATE = Fraction(25)
"""Frames a second where a file does not say."""


def frame_rate(path: Path) -> Fraction:
    """Frames a second.

    Raises:
        UserError: If the file holds no video.
    """
    with _open(path) as container:
        return _stream(container, path).average_rate or DEFAULT_RATE


def read_frames(path: Path) -> Iterator[Picture]:
    """The frames, (H, W, 3) uint8 RGB, turned as players show them; one is held at a time.

    Raises:
        UserError: If the file holds no video, or is broken from some frame on.
    """
    with _open(path) as container:
        stream = _stream(container, path)
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                turns = round(frame.rotation / 90) % 4
                yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
        except av.error.FFmpegError as error:
            raise _unreadable(path, error) from error


class VideoWriter:
    """Writes an `.mp4`; a context manager. The first frame decides the size.

    Args:
        path: the file.
        rate: frames a second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path = path
        self._rate = rate
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w")
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
        if self._stream is None:
            self.path.unlink(missing_ok=True)  # a video without a frame opens nowhere

    def write(self, picture: Picture) -> None:
        """Appends a frame, (H, W, 3) uint8 RGB; an odd side loses its last pixel."""
        height, width = (side - side % 2 for side in picture.shape[:2])
        if self._stream is None:
            stream: Any = self._container.add_stream(_encoder(), rate=self._rate)
            self._stream = stream
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.bit_rate = max(int(width * height * self._rate * 0.2), 500_000)
        even = np.ascontiguousarray(picture[:height, :width])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(frame))


def _encoder() -> str:
    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except Exception:  # how a missing encoder is told depends on the version of PyAV
            continue
        return name
    return ENCODERS[-1]


def _open(path: Path) -> Any:
    try:
        return av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise UserError("the file holds no video", where=str(path))
    return container.streams.video[0]


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"video cannot be read ({error})", where=str(path), fix="Replace the file.")
