"""Tests of reading folders and archives of images into datasets."""

import multiprocessing
import os
import warnings
import zipfile

import numpy as np
import pytest

from finetuner.data.image_decoding import Decoder
from finetuner.data.image_folders import image_formats, split_folders
from finetuner.data.images import ImageArray, ImageFiles
from finetuner.data.reading import load, load_inputs

from .files import SHARED, write_file


@pytest.fixture
def folder(tmp_path, pillow):
    """Four classes with two images of 6 x 4 pixels each, in one common parent folder, and files that are not images."""
    root = tmp_path / "images"
    for i, name in enumerate(["Greek/a", "Greek/b", "Latin/a", "Latin/b"]):
        class_folder = root / "top" / name
        class_folder.mkdir(parents=True)
        for j in range(2):
            pillow.new("RGB", (6, 4), (50 * i, 100 * j, 255)).save(class_folder / ("2.PNG" if j else "1.bmp"))
    (root / "top" / "Greek" / "notes.txt").write_text("not an image")
    (root / "top" / "Greek" / "a" / "._1.png").write_bytes(b"hidden")
    (root / "__MACOSX" / "top").mkdir(parents=True)
    (root / "__MACOSX" / "top" / "1.png").write_bytes(b"from macOS")
    return root


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / "images.ZIP"
    with zipfile.ZipFile(path, "w") as file:
        for item in sorted(folder.rglob("*"), reverse=True):
            file.write(item, item.relative_to(folder))
    return path


def test_classes_are_folders(folder, archive):
    names = ["Greek/a", "Greek/b", "Latin/a", "Latin/b"]
    for path in (folder, archive):
        data = load(path)
        assert data.classes.tolist() == names
        assert data.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        assert data.x.names[:2] == ["top/Greek/a/1.bmp", "top/Greek/a/2.PNG"]
        image, label = data[5]
        assert (image.shape, image.dtype, label) == ((3, 4, 6), np.float32, 2)
        np.testing.assert_allclose(image[:, 0, 0] * 255, [100, 100, 255], rtol=1e-6)
        assert len(data.batch(np.array([0, 7]))) == 2
    assert load(folder / "top").classes.tolist() == names
    assert load(folder / "top" / "Greek").classes.tolist() == ["a", "b"]
    assert load(folder / "top" / "Greek", classes="a").classes.tolist() == ["a"]


def test_single_class_keeps_its_name(folder):
    for name in ("b", "Latin/a", "Latin/b"):
        for path in (folder / "top" / ("Greek" if name == "b" else "") / name).iterdir():
            path.unlink()
    assert load(folder).classes.tolist() == ["a"]
    (folder / "top" / "0.png").write_bytes((folder / "top/Greek/a/2.PNG").read_bytes())
    assert load(folder).classes.tolist() == ["top", "top/Greek/a"]
    with pytest.raises(ValueError, match="must be in the folder of their class, and are not: 0.png$"):
        load(folder / "top")
    assert load_inputs(folder / "top").names == ["0.png", "Greek/a/1.bmp", "Greek/a/2.PNG"]


@pytest.mark.parametrize("classes", ["Greek/*", ["Greek/[ab]"], ["Greek/a", "Greek/b"], ["G*", "*/a"]])
def test_class_patterns(folder, classes):
    data = load(folder, classes=classes, in_memory=True)
    assert data.classes.tolist() == ["Greek/a", "Greek/b"] + ["Latin/a"] * ("*/a" in classes)
    assert data.x.shape == (2 * len(data.classes), 3, 4, 6)


def test_classes_of_a_table(tables, tmp_path):
    path = write_file(tmp_path / "a.csv", "text,n,label\na,0,card [x]\nb,1,cash\nc,2,card\n")
    classes = ["card [x]", "cash"]
    data = load(path, input_column=["text", "n"], label_column="label", classes=classes, numeric="n")
    assert data.x["text"] == ["a", "b"]
    assert data.x["n"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="got 'crad', which matches none; did you mean 'card'?"):
        load(path, input_column="text", label_column="label", classes=["cash", "crad"])
    with pytest.raises(ValueError, match="got 'z', which matches none; its classes are card, card .x., cash"):
        load(path, input_column="text", label_column="label", classes="z")
    with pytest.raises(ValueError, match="at least one name or pattern, got none"):
        load(path, input_column="text", label_column="label", classes=[])


def test_size_mode_and_layout(folder):
    assert load_inputs(folder, image_mode="L", image_size=(2, 3))[0].shape == (1, 2, 3)
    assert load_inputs(folder, image_mode="RGBA", channels_first=False)[0].shape == (4, 6, 4)
    images = load_inputs(folder, image_size=5, channels_first=False)
    assert (images[-1].shape, len(images[2:4]), images[2:4].names) == ((5, 5, 3), 2, images.names[2:4])
    for size, message in [((1, 2, 3), "integer or"), (0, "at least 1, got 0"), ("28", "integer, got '28'")]:
        with pytest.raises((ValueError, TypeError), match=message):
            load(folder, image_size=size)
    with pytest.raises(ValueError, match="image_mode must be one of 'RGB', 'L', 'RGBA', got 'rgb'"):
        load(folder, image_mode="rgb")
    with pytest.raises(ValueError, match="label_column is only for tables, got 'y'"):
        load(folder, label_column="y")


def test_shrinking_is_antialiased(tmp_path, pillow):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    pillow.fromarray(stripes).save(tmp_path / "a.png")
    image = load_inputs(tmp_path, image_size=8, image_mode="L")[0]
    np.testing.assert_allclose(image[:, :, 1:-1], 0.5, atol=0.05)


def test_unusual_pixels(tmp_path, pillow):
    for name in ("16", "1", "palette", "rotated"):
        (tmp_path / name).mkdir()
    pillow.fromarray(np.full((4, 6), 128 * 256 + 9, np.uint16)).save(tmp_path / "16" / "a.png")
    assert load_inputs(tmp_path / "16")[0].mean() == pytest.approx((128 * 256 + 9) / 65535)
    pillow.new("1", (6, 4), 1).save(tmp_path / "1" / "a.png")
    assert load_inputs(tmp_path / "1", image_mode="L", image_size=2)[0].tolist() == [[[1, 1], [1, 1]]]
    image = pillow.new("P", (6, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "palette" / "a.png", transparency=bytes([0, 100]))
    assert load_inputs(tmp_path / "palette")[0][:, 0, 0].tolist() == [1, 0, 0]
    exif = pillow.Exif()
    exif[0x0112] = 6  # a rotation by 90 degrees
    pillow.new("RGB", (6, 4)).save(tmp_path / "rotated" / "a.jpg", exif=exif)
    pillow.new("RGB", (4, 6)).save(tmp_path / "rotated" / "b.jpg")
    assert [image.shape for image in load_inputs(tmp_path / "rotated")] == [(3, 6, 4)] * 2
    pillow.fromarray(np.ones((4, 6), np.float32)).save(tmp_path / "palette" / "b.tif")
    with pytest.raises(ValueError, match="b.tif cannot be read: pixels must have 8 or 16 bits, got mode 'F'"):
        load_inputs(tmp_path / "palette")[1]


def test_in_memory_gives_same_images(archive):
    files, array = load(archive, image_size=3).x, load(archive, image_size=3, in_memory=True).x
    assert isinstance(files, ImageFiles)
    assert isinstance(array, ImageArray)
    assert array.pixels.dtype == np.uint8
    assert (array.shape, array.dtype, len(array)) == ((8, 3, 3, 3), np.float32, 8)
    np.testing.assert_array_equal(np.asarray(array), np.stack(list(files)))
    np.testing.assert_array_equal(array[np.array([5, 1])], np.stack([files[5], files[1]]))


def first_pixel(images, index):
    return os.getpid(), images[index][:, 0, 0].tolist()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_other_processes(request, kind, method):
    images = load_inputs(request.getfixturevalue(kind))
    expected = [images[i][:, 0, 0].tolist() for i in range(8)]  # this opens the archive
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about a fork in a process with threads
        with multiprocessing.get_context(method).Pool(2) as pool:
            results = pool.starmap(first_pixel, [(images, i % 8) for i in range(64)])
    assert os.getpid() not in {pid for pid, _ in results}
    assert [pixel for _, pixel in results] == expected * 8


def read_all(images, expected):
    for _ in range(20):
        for image, pixels in zip(images, expected, strict=True):
            np.testing.assert_array_equal(image, pixels)


def test_forks_do_not_share_an_open_archive(tmp_path, pillow):
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for i in range(8):  # noise, so the files are larger than the read buffer
            with file.open(f"a/{i}.png", "w") as image:
                pillow.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(image, "PNG")
    images = load_inputs(tmp_path / "a.zip")
    expected = list(images)
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        children = [context.Process(target=read_all, args=(images, expected)) for _ in range(2)]
        for child in children:
            child.start()
    read_all(images, expected)
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]


def test_broken_images(folder, tmp_path):
    path = folder / "top" / "Greek" / "b" / "1.bmp"
    png = (folder / "top" / "Greek" / "b" / "2.PNG").read_bytes()
    for content, message in [(b"text", "Pillow does not recognize it as an image"), (png[: len(png) // 2], "")]:
        path.write_bytes(content)
        for image_size in (None, 4):
            with pytest.raises(ValueError, match=f"Greek/b/1.bmp cannot be read: .*{message}"):
                load(folder, image_size=image_size).x[2]
    path.unlink()
    with pytest.raises(ValueError, match="broken.zip cannot be read: File is not a zip file"):
        load(write_file(tmp_path / "broken.zip", "text"))


def test_different_sizes(folder, pillow):
    path = folder / "top" / "Latin" / "b" / "3.png"
    pillow.new("RGB", (6, 5)).save(path)
    message = r"one size unless image_size is given, got \[.*4, 6\] \(.*bmp\) and \[.*5, 6\] \(.*3.png\)"
    images = load(folder).x  # a model of load_model takes images of any size
    with pytest.raises(ValueError, match=message):
        images[0]
    path.rename(folder / "top" / "Greek" / "a" / "3.png")  # the check without in_memory skips this position
    with pytest.raises(ValueError, match=message):
        load(folder, in_memory=True)
    assert load(folder, image_size=4, in_memory=True).x.shape == (9, 3, 4, 4)


def test_no_images(tmp_path, pillow):
    (tmp_path / ".hidden").mkdir()
    pillow.new("L", (1, 1)).save(tmp_path / ".hidden" / "a.png")
    with pytest.raises(ValueError, match=r"must contain images \(\.png, \.jpg and \d+ other .*\), got none$"):
        load(tmp_path)
    (tmp_path / "a.heic").write_bytes(b"x")
    (tmp_path / "b.txt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"got none; 2 files left out: .heic 1, .txt 1$"):
        load(tmp_path)


# Folders of others ---------------------------------------------------------------------------------------


def save(pillow, *paths, size=(6, 4), **options):
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        pillow.new("RGB", size, (number, 0, 0)).save(path, **options)


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("no links")


def test_a_folder_is_read_once_whatever_links_to_it(tmp_path, pillow):
    root, outside = tmp_path / "root", tmp_path / "outside"
    save(pillow, *(root / name / f"{i}.png" for name in "abc" for i in "12"), outside / "x.png")
    for name in "abc":  # three loops, and every folder has a link to every other
        link(root / name / "up", "..")
        for other in "abc":
            link(root / name / f"to-{other}", f"../{other}")
    link(root / "d", outside)
    link(root / "e", outside)
    link(root / "gone", "nowhere")
    link(root / "a" / "itself.png", "itself.png")
    link(root / "b" / "long.png", "x" * 300)
    data = load(root)
    assert data.x.names == [f"{name}/{i}.png" for name in "abc" for i in "12"] + ["d/x.png"]
    assert data.classes.tolist() == list("abcd")
    assert data.x.left_out == {"link to a folder that is read already": 13, "broken link": 3}
    link(tmp_path / "entry", root)
    assert len(load(tmp_path / "entry")) == 7


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_are_not_opened(tmp_path, pillow):
    save(pillow, tmp_path / "a" / "1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    files = load(tmp_path).x
    assert (files.names, files.left_out) == (["a/1.png"], {"no regular file": 1})
    (tmp_path / "a" / "1.png").unlink()
    os.mkfifo(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match=r"1.png cannot be read: it must be a regular file"):
        files[0]


def test_every_format_of_pillow_is_read(tmp_path, pillow):
    suffixes = image_formats()
    assert {".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tga", ".ppm", ".ico", ".jp2"} <= set(suffixes)
    assert not {".eps", ".ps", ".pdf", ".h5", ".mpg"} & set(suffixes)
    written = []
    for suffix, name in sorted(suffixes.items()):
        if name == "IM":  # Pillow warns that it will not read it any more
            continue
        path = tmp_path / "a" / f"x{suffix.upper()}"
        try:
            save(pillow, path, size=(16, 16), format=name)
        except (KeyError, OSError, ValueError):  # a format that Pillow only reads, or not of this kind
            path.unlink(missing_ok=True)
            continue
        written.append(path.name)
    assert len(written) > 20
    assert sorted(name.removeprefix("a/") for name in load_inputs(tmp_path, image_size=4).names) == sorted(written)
    for image in load_inputs(tmp_path, image_size=4):
        assert image.shape == (3, 4, 4)


def test_an_eps_named_png_is_not_run(tmp_path, pillow):
    (tmp_path / "a").mkdir()
    pillow.new("RGB", (4, 4)).save(tmp_path / "a" / "x.eps")
    (tmp_path / "a" / "x.eps").rename(tmp_path / "a" / "x.png")
    with pytest.raises(ValueError, match=r"x.png cannot be read: Pillow does not recognize it"):
        load(tmp_path)


def test_what_is_left_out_is_counted(tmp_path, pillow, caplog):
    save(pillow, tmp_path / "cat" / "1.png", tmp_path / "dog" / "1.jfif")
    for name in ("cat/a.heic", "bird/b.heic", "bird/c.HEIC", "cat/notes.txt", "cat/README"):
        write_file(tmp_path / name, "x") if (tmp_path / name).parent.exists() else None
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_file(tmp_path / name, "x")
    for name in (
        "@eaDir/cat/1.png",
        "$RECYCLE.BIN/x.png",
        ".ipynb_checkpoints/1.png",
        "cat/Thumbs.db",
        "__MACOSX/x.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(tmp_path / name, "x")
    message = r"without an image that can be read: bird \(5 files left out: .heic 3, .txt 1, no suffix 1\)"
    with caplog.at_level("INFO", "finetuner.data"), pytest.warns(UserWarning, match=message):
        files = load(tmp_path).x
    assert files.names == ["cat/1.png", "dog/1.jfif"]
    assert files.left_out == {".heic": 3, ".txt": 1, "no suffix": 1}
    assert caplog.messages == ["2 images, 5 files left out: .heic 3, .txt 1, no suffix 1"]


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "val2017"), ("training_set", "validation", "extra")])
def test_folders_of_splits_are_named(tmp_path, pillow, names):
    save(pillow, *(tmp_path / "data" / name / c / "1.png" for name in names for c in ("cat", "dog")))
    found = ", ".join(sorted(name for name in names if name != "extra"))
    with pytest.warns(UserWarning, match=rf'look like splits: {found}; .*; classes="{names[0]}/\*" reads one of them'):
        load(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path, classes=f"{names[0]}/*").classes.tolist() == [f"{names[0]}/cat", f"{names[0]}/dog"]
        load(tmp_path / "data" / names[0])


def test_classes_that_are_not_splits():
    assert split_folders(["train/a", "bus/a", "plane/a"]) == []
    assert split_folders(["trains/a", "testament/a", "developer/a"]) == []
    assert split_folders(["test/a", "dev/a", "train-1/a", "valid/a"]) == ["dev", "test", "train-1", "valid"]


# Pixels and limits ---------------------------------------------------------------------------------------


def test_twelve_bits_stay_apart(tmp_path, pillow):
    (tmp_path / "a").mkdir()
    ramp = np.arange(4096, dtype=np.uint16).reshape(32, 128) * 16
    for suffix in ("png", "tif"):
        pillow.fromarray(ramp).save(tmp_path / "a" / f"x.{suffix}")
    pillow.fromarray((ramp >> 8).astype(np.uint8)).save(tmp_path / "a" / "eight.png")
    files = load_inputs(tmp_path, image_mode="L")
    for images in (files, files.in_memory()):
        assert images[1].dtype == np.float32
        np.testing.assert_allclose(images[1][0], ramp / 65535, rtol=1e-6)
        np.testing.assert_array_equal(images[1], images[2])
        np.testing.assert_allclose(images[0][0], (ramp >> 8) / 255, rtol=1e-6)
    assert load_inputs(tmp_path, image_mode="RGBA")[1][:, 0, 1].tolist() == pytest.approx([16 / 65535] * 3 + [1])
    small = load_inputs(tmp_path, image_mode="L", image_size=(8, 32))
    np.testing.assert_allclose(small[1].mean(), ramp.mean() / 65535, rtol=1e-3)
    np.testing.assert_array_equal(small[1], small.in_memory()[1])


@pytest.mark.parametrize("orientation", [0, 9, 99, 65535])
def test_an_unknown_orientation_is_none(tmp_path, pillow, orientation):
    exif = pillow.Exif()
    exif[0x0112] = orientation
    save(pillow, tmp_path / "a" / "x.jpg", exif=exif)
    save(pillow, tmp_path / "b" / "x.png")
    assert [image.shape for image in load(tmp_path).x] == [(3, 4, 6)] * 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_at_reduced_size(tmp_path, pillow, orientation):
    y, x = np.mgrid[:600, :800]
    pixels = np.stack([x / 800, y / 600, 0 * x], axis=-1) * 255
    exif = pillow.Exif()
    exif[0x0112] = orientation
    pillow.fromarray(pixels.astype(np.uint8)).save(tmp_path / "x.jpg", exif=exif, quality=95)
    reduced = load_inputs(tmp_path, image_size=(40, 20))[0]
    pillow.fromarray(pixels.astype(np.uint8)).save(tmp_path / "x.jpg", format="PNG", exif=exif)
    np.testing.assert_allclose(reduced, load_inputs(tmp_path, image_size=(40, 20))[0], atol=0.02)


def test_a_large_jpeg_is_decoded_at_a_reduced_size(tmp_path, pillow, monkeypatch):
    save(pillow, tmp_path / "x.jpg", size=(1000, 800))
    sizes = []
    monkeypatch.setattr(
        Decoder, "pixels", lambda self, image: sizes.append(image.size) or np.zeros((3, 1, 1), np.uint8)
    )
    original = pillow.Image.resize
    monkeypatch.setattr(
        pillow.Image, "resize", lambda self, *a, **k: sizes.append(self.size) or original(self, *a, **k)
    )
    for size in (50, 125, 200, 260, None):
        files = load_inputs(tmp_path, image_size=size)
        sizes.clear()
        files[0]
        assert sizes[0] == {50: (125, 100), 125: (500, 400), 200: (500, 400), 260: (1000, 800)}.get(size, (1000, 800))


def test_images_with_too_many_pixels(tmp_path, pillow):
    save(pillow, tmp_path / "a" / "x.png", size=(300, 200))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = load_inputs(tmp_path, max_pixels=59_999)
        with pytest.raises(
            ValueError, match=r"x.png cannot be read: .* 59,999 pixels, got 300 x 200; a larger max_pixels"
        ):
            files[0]
        assert load_inputs(tmp_path, max_pixels=60_000)[0].shape == (3, 200, 300)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("b/x.png", b"\0" * 100_000)
    with pytest.raises(
        ValueError, match=r"x.png cannot be read: it must have at most 80,000 bytes, got 100,000; a larger"
    ):
        load_inputs(tmp_path / "a.zip", max_pixels=10_000)
    with pytest.raises(ValueError, match="max_pixels must be at least 1, got 0"):
        load_inputs(tmp_path, max_pixels=0)


def test_the_limit_of_pillow(tmp_path, pillow, monkeypatch):
    save(pillow, tmp_path / "a" / "x.png", size=(30, 20))
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"at most 100 pixels, got 30 x 20; a larger max_pixels"):
            load_inputs(tmp_path)[0]
        assert load_inputs(tmp_path, max_pixels=600)[0].shape == (3, 20, 30)
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", None)
    assert load_inputs(tmp_path)[0].shape == (3, 20, 30)
    assert pillow.MAX_IMAGE_PIXELS is None


def test_an_image_of_another_size_is_named_on_access(tmp_path, pillow):
    save(pillow, *(tmp_path / "a" / f"{i:02}.png" for i in range(20)))
    save(pillow, tmp_path / "a" / "01.png", size=(6, 5))  # not among those that are looked at first
    files = load_inputs(tmp_path)
    with pytest.raises(ValueError, match=r"got \[4, 6\] \(a/00.png\) and \[5, 6\] \(a/01.png\)"):
        files[1]
    assert files[2].shape == (3, 4, 6)


def test_broken_images_are_skipped(folder, tmp_path):
    path = folder / "top" / "Greek" / "b" / "1.bmp"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.warns(UserWarning, match=r"^1 of 8 images are broken and left out: .*Greek/b/1.bmp cannot be read"):
        data = load(folder, skip_broken=True, image_size=4)
    assert (len(data), data.labels.tolist()) == (7, [0, 0, 1, 2, 2, 3, 3])
    assert list(data.x.broken) == ["top/Greek/b/1.bmp"]
    with pytest.warns(UserWarning, match="^1 of 8 images"):
        assert len(load_inputs(folder, skip_broken=True, image_size=4)) == 7
    for other in folder.rglob("*"):
        if other.suffix in (".bmp", ".PNG"):
            other.write_bytes(b"text")
    with pytest.raises(ValueError, match="must contain images that can be read, and all 8 cannot: .*1.bmp"):
        load(folder, skip_broken=True, image_size=4)


def test_omniglot(pillow):
    archives = sorted((SHARED / "omniglot").glob("*.zip"))
    if not archives:
        pytest.skip("no real data")
    data = load(archives[0], image_mode="L", image_size=28)
    assert (len(data), len(data.classes), data.classes[0]) == (2720, 136, "Balinese/character01")
    assert np.bincount(data.labels).tolist() == [20] * 136
    assert data[0][0].shape == (1, 28, 28)
    train = load(archives[0], classes=["Greek/*", "Latin/*", "Balinese/*"], image_mode="L", image_size=28)
    test = load(archives[0], classes=["Korean/*", "Early_Aramaic/*"], image_mode="L", image_size=28)
    assert len(train) + len(test) == 2720
    assert not set(train.classes) & set(test.classes)


def test_a_rotated_jpeg_is_reduced_by_its_own_sides(tmp_path, pillow, monkeypatch):
    exif, sizes = pillow.Exif(), []
    exif[0x0112] = 6
    save(pillow, tmp_path / "x.jpg", size=(1600, 400), exif=exif)
    files = load_inputs(tmp_path, image_size=(200, 50))
    transpose = pillow.Image.transpose
    monkeypatch.setattr(
        pillow.Image, "transpose", lambda self, *a, **k: sizes.append(self.size) or transpose(self, *a, **k)
    )
    assert files[0].shape == (3, 200, 50)
    assert sizes == [(400, 100)]
