import numpy as np
import pytest
from PIL import Image

from boxmask.data.pictures import is_turned, picture_size, picture_sizes, read_picture
from boxmask.errors import UserError


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_exif_turns_pixels_and_size_alike(tmp_path, make_picture, orientation, ending):
    path = make_picture(tmp_path / f"a.{ending}", (20, 31), orientation)
    pixels = read_picture(path)
    assert pixels.shape[:2] == picture_size(path)
    assert picture_size(path) == ((31, 20) if orientation >= 5 else (20, 31))


def test_exif_six_turns_clockwise(tmp_path, make_picture):
    plain = read_picture(make_picture(tmp_path / "a.png", (20, 31)))
    turned_path = make_picture(tmp_path / "b.png", (20, 31), 6)
    assert np.array_equal(read_picture(turned_path), np.rot90(plain, -1))
    assert is_turned(turned_path)
    assert not is_turned(tmp_path / "a.png")


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png")
    assert pixels.dtype == np.uint8
    assert all(np.array_equal(pixels[..., channel], grey) for channel in range(3))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_stretched_from_their_own_range(tmp_path, ending):
    values = np.linspace(1000, 3000, 600).astype(np.uint16).reshape(20, 30)
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    pixels = read_picture(tmp_path / f"a.{ending}")
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert abs(int(pixels[10, 0, 0]) - 128) < 3


def test_one_hot_pixel_does_not_darken_a_deep_picture(tmp_path):
    values = np.linspace(100, 200, 10_000).astype(np.uint16).reshape(100, 100)
    values[0, 0] = 65535
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").mean() > 100


def test_deep_picture_of_one_value_is_divided(tmp_path):
    Image.fromarray(np.full((4, 5), 257 * 7, dtype=np.uint16)).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png") == 7).all()


def test_float_picture_with_nan(tmp_path):
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_picture(tmp_path / "a.tif").shape == (20, 30, 3)


def test_see_through_pixels_become_white(tmp_path):
    image = Image.new("RGBA", (4, 3), (10, 20, 30, 0))
    image.putpixel((1, 1), (10, 20, 30, 255))
    image.save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png")
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [10, 20, 30]


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (4, 3), 0)
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.putpixel((1, 1), 1)
    image.save(tmp_path / "a.png", transparency=0)
    pixels = read_picture(tmp_path / "a.png")
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [0, 200, 0]


@pytest.mark.parametrize(("mode", "ending"), [("CMYK", "jpg"), ("1", "png"), ("LA", "png")])
def test_other_modes(tmp_path, mode, ending):
    Image.new(mode, (5, 4)).save(tmp_path / f"a.{ending}")
    assert read_picture(tmp_path / f"a.{ending}").shape == (4, 5, 3)


def test_truncated_file_is_named(tmp_path, make_picture):
    path = make_picture(tmp_path / "a.jpg", (80, 90))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UserError, match=r"a\.jpg"):
        read_picture(path)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_no_picture(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for function in (read_picture, picture_size):
        with pytest.raises(UserError, match="cannot be read"):
            function(path)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="missing"):
        read_picture(tmp_path / "none.png")


def test_sizes_of_many_keep_order_and_errors(tmp_path, make_picture):
    good = [make_picture(tmp_path / f"{k}.png", (k + 1, 5)) for k in range(20)]
    sizes = picture_sizes([*good, tmp_path / "none.png"])
    assert sizes[:20] == [(k + 1, 5) for k in range(20)]
    assert isinstance(sizes[20], UserError)


def test_a_satellite_picture_is_read(tmp_path):
    path = tmp_path / "a.png"
    Image.new("1", (20_000, 10_000)).save(path)  # Pillow alone refuses 200 million pixels
    before = Image.MAX_IMAGE_PIXELS
    assert picture_size(path) == (10_000, 20_000)
    assert before == Image.MAX_IMAGE_PIXELS


def test_pixels_of_a_picture_above_the_limit_of_pillow(tmp_path, make_picture, monkeypatch):
    path = make_picture(tmp_path / "a.png", (30, 40))
    pixels = read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert np.array_equal(read_picture(path), pixels)
    assert Image.MAX_IMAGE_PIXELS == 500
    assert picture_sizes([path] * 20) == [(30, 40)] * 20
    assert Image.MAX_IMAGE_PIXELS == 500


def test_too_large_a_picture_is_refused_with_advice(tmp_path, make_picture, monkeypatch):
    path = make_picture(tmp_path / "a.png", (30, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    monkeypatch.setattr("boxmask.data.pictures.MAX_PIXELS", 1000)
    for function in (read_picture, picture_size):
        with pytest.raises(UserError, match="more than 0 million pixels") as caught:
            function(path)
        assert "tiles" in caught.value.fix
