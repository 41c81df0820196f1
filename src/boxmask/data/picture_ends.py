"""Tells from one small read whether a picture file ends where it should, or was cut short."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

END_MARKS = {
    "JPEG": b"\xff\xd9",
    "MPO": b"\xff\xd9",
    "PNG": b"IEND\xae\x42\x60\x82",
    "GIF": b"\x3b",
}
"""Last bytes of a whole file, by Pillow's name of the kind."""

TAIL_BYTES = 4096
"""Bytes at a file's end that are read; some cameras fill them up with zeros."""

_TIFF_STRIPS = ((273, 279), (324, 325))  # tags of offsets and byte counts: strips, tiles


def ends_early(image: Image.Image, stream: BinaryIO) -> bool:
    """Whether an opened picture's file lacks its end; False for kinds that show no end.

    A file that says True may still be whole, with foreign bytes behind the picture: only
    decoding it can tell.

    Args:
        image: the picture, opened but not decoded.
        stream: its file.
    """
    mark = END_MARKS.get(image.format or "")
    if mark is not None:
        return not _tail(stream).rstrip(b"\0").endswith(mark)
    if image.format == "TIFF":
        return _tiff_end(image) > _length(stream)
    if image.format == "BMP":
        stream.seek(2)
        return int.from_bytes(stream.read(4), "little") > _length(stream)
    return False


def _tail(stream: BinaryIO) -> bytes:
    stream.seek(max(0, _length(stream) - TAIL_BYTES))
    return stream.read()


def _length(stream: BinaryIO) -> int:
    return stream.seek(0, 2)


def _tiff_end(image: Image.Image) -> int:
    """Where the last strip or tile of the first page ends, in bytes of the file."""
    tags = getattr(image, "tag_v2", {})
    ends = [0]
    for offsets, counts in _TIFF_STRIPS:
        pairs = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
        ends += [offset + count for offset, count in pairs]
    return max(ends)
