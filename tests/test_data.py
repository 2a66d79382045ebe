"""Files and folders -> datasets: what is read, and what is said of what cannot be."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from finetuner.data import ImageArray, ImageFiles, load, load_inputs
from finetuner.tuner.base import ClassDataset, SessionDataset

SHARED = Path(os.environ.get("FINETUNER_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def tables():
    pytest.importorskip("datasets")


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path, pillow):
    """Four classes of two images, 6 x 4 pixels, under one folder that all share; and what is no image."""
    root = tmp_path / "images"
    for i, name in enumerate(["Greek/a", "Greek/b", "Latin/a", "Latin/b"]):
        where = root / "top" / name
        where.mkdir(parents=True)
        for j in range(2):
            pillow.new("RGB", (6, 4), (50 * i, 100 * j, 255)).save(where / ("2.PNG" if j else "1.bmp"))
    (root / "top" / "Greek" / "notes.txt").write_text("not an image")
    (root / "top" / "Greek" / "a" / "._1.png").write_bytes(b"hidden")
    (root / "__MACOSX" / "top").mkdir(parents=True)
    (root / "__MACOSX" / "top" / "1.png").write_bytes(b"of another system")
    return root


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / "images.ZIP"
    with zipfile.ZipFile(path, "w") as file:
        for item in sorted(folder.rglob("*"), reverse=True):
            file.write(item, item.relative_to(folder))
    return path


def written(path, content):
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return path


def parquet(path, **columns):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


# Tables


CSV = 'text,label,extra\n"one, two",b,1\nNA,a,\nNone,b,3\n'
ROWS = [{"text": "one, two", "label": "b"}, {"text": "NA", "label": "a"}, {"text": "None", "label": "b"}]
LINES = "\n".join(map(json.dumps, ROWS))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("A.CSV", "\ufeff" + CSV),
        ("a.tsv", CSV.replace(",", "\t").replace("one\t two", "one, two")),
        ("a.jsonl", LINES),
        ("a.ndjson", LINES + "\n"),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("of a[1]* ?::http.csv", CSV),  # no pattern, no URL
    ],
)
def test_text_and_labels(tables, tmp_path, name, content, capfd):
    data = load(written(tmp_path / name, content), input_column="text", label_column="label")
    assert isinstance(data, ClassDataset)
    assert data.x == ["one, two", "NA", "None"]
    assert list(data.classes[data.labels]) == ["b", "a", "b"]
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_only_other_column_is_the_input(tables, tmp_path):
    path = written(tmp_path / "a.jsonl", LINES)
    assert load(str(path), label_column="label").x == ["one, two", "NA", "None"]
    assert load_inputs(written(tmp_path / "b.csv", "text\nx\ny\n")) == ["x", "y"]


def test_numbers_and_lists(tables, tmp_path):
    lines = [{"v": [1, 2.5], "n": i, "m": [[i, 2], [3, 4]], "y": i % 2} for i in range(3)]
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    data = load(path, input_column=["v", "n", "m"], label_column="y")
    assert {key: (value.dtype.name, value.shape) for key, value in data.x.items()} == {
        "v": ("float32", (3, 2)),
        "n": ("int64", (3,)),
        "m": ("int64", (3, 2, 2)),
    }
    np.testing.assert_array_equal(data.x["m"][2], [[2, 2], [3, 4]])
    assert data.classes.tolist() == [0, 1]


def test_parquet(tables, tmp_path):
    pa = pytest.importorskip("pyarrow")
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    path = parquet(
        tmp_path / "a.parquet",
        fixed=pa.FixedSizeListArray.from_arrays(vectors.ravel(), 3),
        large=pa.array(vectors.astype(np.float64).tolist(), pa.large_list(pa.float64())),
        kind=pa.array(["b", "a", "b", "a"]).dictionary_encode(),
        flag=[True, False, True, False],
        struct=[{"bytes": b"", "path": "a"}] * 4,
    )
    data = load(path, input_column=["fixed", "large", "flag"], label_column="kind")
    np.testing.assert_array_equal(data.x["fixed"], vectors)
    np.testing.assert_array_equal(data.x["large"], vectors)
    assert data.x["large"].dtype == np.float32
    assert data.x["flag"].dtype == bool
    assert data.classes.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="must hold at least one row, got none"):
        load_inputs(parquet(tmp_path / "b.parquet", text=pa.array([], pa.string())))
    with pytest.raises(ValueError, match="column 'struct' of .* must hold text, numbers or lists of numbers"):
        load_inputs(path, input_column="struct")


def test_a_column_is_of_one_kind_to_its_end(tables, tmp_path):
    lines = "".join(f"t{i},{i if i < 11_000 else 'last'}\n" for i in range(12_000))
    data = load(written(tmp_path / "a.csv", "text,label\n" + lines), label_column="label")
    assert data.classes.dtype.kind == "U"
    assert data.labels[-1] == data.labels[-2]


def test_sessions(tables, tmp_path):
    path = written(tmp_path / "a.csv", "text,s,r\na,q1,0\nb,q1,1\nc,q1,-1\nd,q2,0\n")
    data = load(path, session_column="s", role_column="r")
    assert isinstance(data, SessionDataset)
    assert data.x == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(data.labels, [[0, 0], [0, 1], [0, -1], [1, 0]])
    with pytest.raises(ValueError, match="role_column must name a column of .*'text', 's', 'r'"):
        load(path, session_column="s")
    with pytest.raises(ValueError, match="label_column is only for data without sessions, got 'r'"):
        load(path, session_column="s", role_column="r", label_column="r")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nhi, there,1\nx,y,2\n", "cannot be read: Length of header"),
        ("a.csv", "text,label\nhi,1\nx,y,2\n", "cannot be read: .*Expected 2 fields in line 3, saw 3$"),
        ("a.csv", 'text,label\n"hi,1\nx,2\n', "cannot be read: .*EOF inside string"),
        ("a.csv", b"text,label\n\xff,1\n", "cannot be read: 'utf-8' codec can't decode"),
        ("a.csv", "text,label\n", "must hold at least one row, got none"),
        ("a.csv", "", "must not be empty, and is"),
        ("a.csv", "text,label\na,1\n,2\nb,3\n", r"'text' of .* must not miss values, .* rows \(from 0\) 1$"),
        ("a.csv", "text,label\na,1\nb\nc\n", r"'label' of .* must not miss values, .* rows \(from 0\) 1, 2$"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text":\n', "cannot be read: JSON parse error"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": "c"}', "read: .*changed from"),
        ("a.jsonl", "\n", "must hold at least one row, got none"),
        ("a.jsonl", '{"text": [1, 2], "label": 1}\n{"text": [1], "label": 1}', "of one length, got 1, 2"),
        ("a.jsonl", '{"text": [1], "label": 1}\n{"text": [null], "label": 1}', r"rows \(from 0\) 1$"),
        ("a.jsonl", '{"text": ["a"], "label": 1}', "text, numbers or lists of numbers, got list"),
        ("a.parquet", "text,label\n", "cannot be read: Parquet magic bytes not found"),
    ],
)
def test_broken_tables(tables, tmp_path, name, content, message, capfd):
    with pytest.raises(ValueError, match=message) as caught:
        load(written(tmp_path / name, content), input_column="text", label_column="label")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_columns_that_are_not_there(tables, tmp_path):
    path = written(tmp_path / "a.csv", CSV)
    with pytest.raises(ValueError, match="got 'lable'; did you mean 'label'?"):
        load(path, input_column="text", label_column="lable")
    listed = "_column must name a column of .*, which has 'text', 'label', 'extra'"
    with pytest.raises(ValueError, match="label" + listed):
        load(path, input_column="text")
    with pytest.raises(ValueError, match="input" + listed):
        load(path, label_column="label")
    with pytest.raises(ValueError, match="image_size is only for images, got 28"):
        load(path, label_column="label", image_size=28)


def test_nothing_is_left_at_home_nor_asked_of_the_network(tables, tmp_path):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    path = written(tmp_path / "a.csv", CSV)
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise SystemExit('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from finetuner.data import load\n"
        "assert not {'datasets', 'PIL', 'pyarrow'} & set(sys.modules)\n"
        f"assert len(load({str(path)!r}, input_column='text', label_column='label')) == 3\n"
        "assert not {'torch', 'keras', 'paddle', 'tensorflow', 'jax'} & set(sys.modules)\n"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    kept |= {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(here)}
    done = subprocess.run([sys.executable, "-c", code], env=kept, cwd=here, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.rglob("*")) == list(here.rglob("*")) == []


def test_missing_libraries(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    with pytest.raises(ImportError, match=r'reading tables needs datasets: pip install "finetuner\[data\]"'):
        load(written(tmp_path / "a.csv", CSV), label_column="label")
    with pytest.raises(ImportError, match=r'reading images needs Pillow: pip install "finetuner\[data\]"'):
        load(tmp_path)


# Arrays


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.eye(3), y=["a", "b", "a"], words=["u", "v", "w"])
    data = load(path)
    assert data.x.dtype == np.float32
    assert data.classes.tolist() == ["a", "b"]
    assert load(path, input_column="words", label_column="y", classes="a").x == ["u", "w"]
    assert set(load(path, input_column=["x", "words"]).x) == {"x", "words"}
    np.testing.assert_array_equal(load_inputs(path), np.eye(3))
    with pytest.raises(ValueError, match="got 'wrods'; did you mean 'words'?"):
        load(path, input_column="wrods")


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4))
    assert load_inputs(tmp_path / "a.npy").tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="labels are needed, and an .npy file has none"):
        load(tmp_path / "a.npy")


def test_broken_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([1, "a", None], object), y=[1, 2, 3])
    assert load_inputs(tmp_path / "a.npz", input_column="y").tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="a.npz cannot be read: it holds arrays of Python objects"):
        load(tmp_path / "a.npz")
    for content in (pickle.dumps([1, 2]), b"PK\x03\x04 and so on", b"\x93NUMPY", b"text"):
        with pytest.raises(ValueError, match="b.npz cannot be read: "):
            load(written(tmp_path / "b.npz", content))
    with pytest.raises(ValueError, match="c.npz cannot be read: it is not in numpy's format"):
        load(written(tmp_path / "c.npz", pickle.dumps([1, 2])))


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError, match="and there is none at .*none.csv"):
        load(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"must end in one of \.csv, \.tsv, .* or be a folder .*a\.xlsx"):
        load(written(tmp_path / "a.xlsx", "a"))


# Images


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


def test_a_class_is_never_without_a_name(folder):
    for name in ("b", "Latin/a", "Latin/b"):
        for path in (folder / "top" / ("Greek" if name == "b" else "") / name).iterdir():
            path.unlink()
    assert load(folder).classes.tolist() == ["a"]
    (folder / "top" / "0.png").write_bytes((folder / "top/Greek/a/2.PNG").read_bytes())
    assert load(folder).classes.tolist() == ["top", "top/Greek/a"]
    with pytest.raises(ValueError, match="must lie in the folder of their class, and not 0.png$"):
        load(folder / "top")
    assert load_inputs(folder / "top").names == ["0.png", "Greek/a/1.bmp", "Greek/a/2.PNG"]


@pytest.mark.parametrize("classes", ["Greek/*", ["Greek/[ab]"], ["Greek/a", "Greek/b"], ["G*", "*/a"]])
def test_some_classes(folder, classes):
    data = load(folder, classes=classes, in_memory=True)
    assert data.classes.tolist() == ["Greek/a", "Greek/b"] + ["Latin/a"] * ("*/a" in classes)
    assert data.x.shape == (2 * len(data.classes), 3, 4, 6)


def test_some_classes_of_a_table(tables, tmp_path):
    path = written(tmp_path / "a.csv", "text,n,label\na,0,card [x]\nb,1,cash\nc,2,card\n")
    data = load(path, input_column=["text", "n"], label_column="label", classes=["card [x]", "cash"])
    assert data.x["text"] == ["a", "b"]
    assert data.x["n"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="none there matches 'crad'; did you mean 'card'?"):
        load(path, input_column="text", label_column="label", classes=["cash", "crad"])
    with pytest.raises(ValueError, match="none there matches 'z'; there are card, card .x., cash"):
        load(path, input_column="text", label_column="label", classes="z*".strip("*"))
    with pytest.raises(ValueError, match="at least one name or pattern, got none"):
        load(path, input_column="text", label_column="label", classes=[])


def test_size_mode_and_layout(folder):
    assert load_inputs(folder, image_mode="L", image_size=(2, 3))[0].shape == (1, 2, 3)
    assert load_inputs(folder, image_mode="RGBA", channels_first=False)[0].shape == (4, 6, 4)
    images = load_inputs(folder, image_size=5, channels_first=False)
    assert (images[-1].shape, len(images[2:4]), images[2:4].names) == ((5, 5, 3), 2, images.names[2:4])
    for wrong, message in [((1, 2, 3), "number or"), (0, "at least 1, got 0"), ("28", "number, got '28'")]:
        with pytest.raises((ValueError, TypeError), match=message):
            load(folder, image_size=wrong)
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
    for name in ("16", "1", "palette", "turned"):
        (tmp_path / name).mkdir()
    pillow.fromarray(np.full((4, 6), 128 * 256 + 9, np.uint16)).save(tmp_path / "16" / "a.png")
    assert load_inputs(tmp_path / "16")[0].mean() == pytest.approx(128 / 255)
    pillow.new("1", (6, 4), 1).save(tmp_path / "1" / "a.png")
    assert load_inputs(tmp_path / "1", image_mode="L", image_size=2)[0].tolist() == [[[1, 1], [1, 1]]]
    image = pillow.new("P", (6, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "palette" / "a.png", transparency=bytes([0, 100]))
    assert load_inputs(tmp_path / "palette")[0][:, 0, 0].tolist() == [1, 0, 0]
    exif = pillow.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    pillow.new("RGB", (6, 4)).save(tmp_path / "turned" / "a.jpg", exif=exif)
    pillow.new("RGB", (4, 6)).save(tmp_path / "turned" / "b.jpg")
    assert [image.shape for image in load_inputs(tmp_path / "turned")] == [(3, 6, 4)] * 2
    pillow.fromarray(np.ones((4, 6), np.float32)).save(tmp_path / "palette" / "b.tif")
    with pytest.raises(ValueError, match="b.tif cannot be read: pixels must have 8 or 16 bits, got mode 'F'"):
        load_inputs(tmp_path / "palette")[1]


def test_in_memory_is_the_same(archive):
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
    wanted = [images[i][:, 0, 0].tolist() for i in range(8)]  # an archive is open from here on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        with multiprocessing.get_context(method).Pool(2) as pool:
            found = pool.starmap(first_pixel, [(images, i % 8) for i in range(64)])
    assert os.getpid() not in {pid for pid, _ in found}
    assert [pixel for _, pixel in found] == wanted * 8


def read_all(images, wanted):
    for _ in range(20):
        for image, pixels in zip(images, wanted, strict=True):
            np.testing.assert_array_equal(image, pixels)


def test_forks_do_not_share_an_open_archive(tmp_path, pillow):
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for i in range(8):  # of noise, and so larger than what is read ahead
            with file.open(f"a/{i}.png", "w") as image:
                pillow.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(image, "PNG")
    images = load_inputs(tmp_path / "a.zip")
    wanted = list(images)
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        children = [context.Process(target=read_all, args=(images, wanted)) for _ in range(2)]
        for child in children:
            child.start()
    read_all(images, wanted)
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]


def test_broken_images(folder, tmp_path):
    path = folder / "top" / "Greek" / "b" / "1.bmp"
    whole = (folder / "top" / "Greek" / "b" / "2.PNG").read_bytes()
    for content, message in [(b"text", "no image that Pillow knows"), (whole[: len(whole) // 2], "")]:
        path.write_bytes(content)
        for image_size in (None, 4):
            with pytest.raises(ValueError, match=f"Greek/b/1.bmp cannot be read: .*{message}"):
                load(folder, image_size=image_size).x[2]
    path.unlink()
    with pytest.raises(ValueError, match="broken.zip cannot be read: File is not a zip file"):
        load(written(tmp_path / "broken.zip", "text"))


def test_sizes_that_differ(folder, pillow):
    path = folder / "top" / "Latin" / "b" / "3.png"
    pillow.new("RGB", (6, 5)).save(path)
    message = r"one size, or image_size be given, got \[.*4, 6\] \(.*bmp\) and \[.*5, 6\] \(.*3.png\)"
    with pytest.raises(ValueError, match=message):
        load(folder)
    path.rename(folder / "top" / "Greek" / "a" / "3.png")  # which is not among those that are looked at
    with pytest.raises(ValueError, match=message):
        load(folder, in_memory=True)
    assert load(folder, image_size=4, in_memory=True).x.shape == (9, 3, 4, 4)


def test_no_images(tmp_path, pillow):
    (tmp_path / ".hidden").mkdir()
    pillow.new("L", (1, 1)).save(tmp_path / ".hidden" / "a.png")
    with pytest.raises(ValueError, match=r"must hold images \(\.png, .*\), got none"):
        load(tmp_path)


# Real data


def test_omniglot(pillow):
    found = sorted((SHARED / "omniglot").glob("*.zip"))
    if not found:
        pytest.skip("no real data")
    data = load(found[0], image_mode="L", image_size=28)
    assert (len(data), len(data.classes), data.classes[0]) == (2720, 136, "Balinese/character01")
    assert np.bincount(data.labels).tolist() == [20] * 136
    assert data[0][0].shape == (1, 28, 28)
    train = load(found[0], classes=["Greek/*", "Latin/*", "Balinese/*"], image_mode="L", image_size=28)
    test = load(found[0], classes=["Korean/*", "Early_Aramaic/*"], image_mode="L", image_size=28)
    assert len(train) + len(test) == 2720
    assert not set(train.classes) & set(test.classes)


def test_banking77(tables):
    if not (SHARED / "banking77").is_dir():
        pytest.skip("no real data")
    for name, num_items in [("train.csv", 10_003), ("test.csv", 3_080)]:
        data = load(SHARED / "banking77" / name, label_column="category")
        assert (len(data), len(data.classes)) == (num_items, 77)
        assert all(isinstance(text, str) for text in data.x)
