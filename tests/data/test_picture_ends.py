import numpy as np
import pytest
from PIL import Image

from boxmask.data.pictures import picture_size, read_picture
from boxmask.errors import UserError


def save_noise(path, **options):
    values = np.random.default_rng(0).integers(0, 255, (60, 80, 3))
    Image.fromarray(values.astype(np.uint8)).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.gif", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "jpeg"}),
        ("a.webp", {}),
    ],
)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_file_cut_short_is_no_picture(tmp_path, name, options, kept):
    path = save_noise(tmp_path / name, **options)
    assert picture_size(path) == (60, 80)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"cannot be read") as caught:
        picture_size(path)
    assert caught.value.where == str(path)
    with pytest.raises(UserError, match=r"cannot be read"):
        read_picture(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp", "a.tif"])
@pytest.mark.parametrize(
    "tail", [b"\0" * 7, b"\0" * 3000, b"\0" * 20_000, b"film and sound of a phone" * 400]
)
def test_bytes_behind_a_whole_picture_do_no_harm(tmp_path, name, tail):
    path = save_noise(tmp_path / name)
    path.write_bytes(path.read_bytes() + tail)
    assert picture_size(path) == (60, 80)


def test_whole_files_are_not_decoded(tmp_path, monkeypatch):
    paths = [save_noise(tmp_path / name) for name in ("a.jpg", "a.png", "a.gif", "a.bmp", "a.tif")]
    paths[0].write_bytes(paths[0].read_bytes() + b"\0" * 3000)
    monkeypatch.setattr(Image.Image, "load", None)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert [picture_size(path) for path in paths] == [(60, 80)] * len(paths)
