"""Tests of ``finetuner check``, of tables with paths of images, and of images that are skipped."""

import json
import unicodedata

import numpy as np
import pytest

from finetuner.data import load, load_inputs
from finetuner.data.image_tables import has_query_and_gallery
from finetuner.data.inspection import inspect_data

from .files import write_file


@pytest.fixture
def pictures(tmp_path, pillow):
    """A table with the paths of eight images in four splits and parts."""
    rows = ["path,label,split,is_query,is_gallery"]
    for i in range(8):
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        pillow.new("RGB", (6, 4), (i, 0, 0)).save(folder / f"{i}.png")
        split, parts = ("train", ",") if i < 4 else ("validation", ["True,False", "False,True"][i % 2])
        rows.append(f"pictures/{i}.png,{'cat' if i % 4 < 2 else 'dog'},{split},{parts}")
    return write_file(tmp_path / "table.csv", "\n".join(rows) + "\n")


def red(images):
    return [round(float(image[0, 0, 0]) * 255) for image in images]


def test_a_table_of_image_paths(pictures):
    data = load(pictures, image_column="path", label_column="label")
    assert (len(data), data.x.names[3], data.classes.tolist()) == (8, "pictures/3.png", ["cat", "dog"])
    assert (red(data.x), data.labels.tolist()) == ([*range(8)], [0, 0, 1, 1] * 2)
    train = load(pictures, image_column="path", label_column="label", split="train", classes="dog")
    assert (red(train.x), train.classes.tolist()) == ([2, 3], ["dog"])
    parts = {
        part: load(pictures, image_column="path", label_column="label", part=part) for part in ("query", "gallery")
    }
    assert {part: red(data.x) for part, data in parts.items()} == {"query": [4, 6], "gallery": [5, 7]}
    assert red(
        load_inputs(pictures, image_column=["path"], split="validation", in_memory=True, image_size=2)["path"][:]
    )
    assert red(load_inputs(pictures, image_column="path", split="validation")) == [4, 5, 6, 7]
    pairs = load(pictures, image_column="path", anchor_column="path", positive_column="label")
    assert (red(pairs.sides[0]), pairs.sides[1][0]) == ([*range(8)], "cat")


def test_a_table_of_absolute_paths(pictures, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    text = pictures.read_text().replace("pictures/", f"{pictures.parent}/pictures/")
    moved = write_file(tmp_path / "elsewhere" / "table.csv", text)
    assert red(load(moved, image_column="path", label_column="label").x) == [*range(8)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "file"}, "image_column must be a column of .*table.csv, got 'file'"),
        ({"image_column": "path", "split": "val"}, "split must be a value of 'split' .*, got 'val'"),
        ({"image_column": "path", "split": "zzz"}, "got 'zzz'; it has train, validation"),
        ({"image_column": "path", "part": "queries"}, "part must be one of 'query', 'gallery', got 'queries'"),
        ({"image_column": "path", "split": "train", "part": "query"}, "rows with is_query in split 'train', got none"),
        ({"image_column": "label"}, r"images must be files, and 8 of 8 do not exist: .*cat"),
        ({"input_column": "path", "image_size": 3}, "image_size is only for images, got 3"),
        ({"input_column": "path", "max_pixels": 3}, "max_pixels is only for images, got 3"),
        ({"input_column": "path", "skip_broken": True}, "skip_broken is only for images, got True"),
    ],
)
def test_options_of_tables_that_do_not_fit(pictures, options, message):
    with pytest.raises(ValueError, match=message):
        load(pictures, label_column="label", **options)


def test_options_of_tables_are_not_for_folders(pictures):
    for option in ("split", "part", "image_column"):
        with pytest.raises(ValueError, match=f"{option} is only for tables, got 'train'"):
            load_inputs(pictures.parent / "pictures", **{option: "train"})


def test_rows_with_broken_images_are_skipped(pictures):
    folder = pictures.parent / "pictures"
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:40])
    (folder / "0.png").unlink()
    with pytest.warns(UserWarning, match=r"^2 of 8 images are broken and left out: .*0.png .*5.png cannot be read"):
        data = load(pictures, image_column="path", label_column="label", skip_broken=True)
    assert (red(data.x), data.labels.tolist()) == ([1, 2, 3, 4, 6, 7], [0, 1, 1, 0, 1, 1])
    with pytest.raises(ValueError, match="1 of 8 do not exist: .*0.png"):
        load(pictures, image_column="path", label_column="label")


def test_queries_and_gallery(pictures, tmp_path):
    assert has_query_and_gallery(pictures, "validation")
    assert not has_query_and_gallery(pictures, "train")
    assert not has_query_and_gallery(pictures.parent / "pictures")
    everything = write_file(tmp_path / "b.csv", "x,is_query,is_gallery\na,1,1\nb,1,1\nc,0,0\n")
    assert not has_query_and_gallery(everything)
    for line, message in [
        ("d,1,0", "2 rows that are both and 1 that are one"),
        ("d,maybe,0", "true and false, got maybe"),
    ]:
        mixed = write_file(tmp_path / "c.csv", everything.read_text() + line + "\n")
        with pytest.raises(ValueError, match=message):
            has_query_and_gallery(mixed)


# What a check finds --------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, pillow):
    """Two folders of images with faults of every kind."""
    rng = np.random.default_rng(0)

    def save(*names, size=(6, 4)):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pillow.fromarray(pixels).save(path)

    save("a/cat/1.png", "a/cat/same.bmp", "b/cat/copy.tif")
    save("a/Cat/2.png", "a/dog/also.png")
    save("a/dog/3.png", size=(8, 4))
    save(f"a/{unicodedata.normalize('NFC', 'mär')}/4.png")
    save(f"a/{unicodedata.normalize('NFD', 'mär')}/5.png")
    save("b/cat/6.png", "b/dog/7.png")
    write_file(tmp_path / "a" / "cat" / "notes.txt", "x")
    whole = (tmp_path / "a" / "dog" / "3.png").read_bytes()
    write_file(tmp_path / "a" / "dog" / "broken.png", whole[: len(whole) // 2])
    return tmp_path / "a", tmp_path / "b"


def test_images_are_looked_through(folders):
    first, second = inspect_data(folders)
    composed, decomposed = (unicodedata.normalize(form, "mär") for form in ("NFC", "NFD"))
    assert (first.items, first.classes, first.smallest_class, first.largest_class) == (8, 5, 1, 3)
    assert list(first.broken) == ["dog/broken.png"]
    assert "dog/broken.png cannot be read" in first.broken["dog/broken.png"]
    assert first.sizes == {"4x6": 6, "4x8": 1}
    assert first.left_out == {".txt": 1}
    assert first.similar_labels == [["Cat", "cat"], sorted([composed, decomposed])]
    assert first.single_item_classes == sorted(["Cat", composed, decomposed])
    assert first.duplicates == [["Cat/2.png", "dog/also.png"], ["cat/1.png", "cat/same.bmp"]]
    assert first.conflicts == [["Cat/2.png", "dog/also.png"]]
    assert (first.shared, second.shared) == ({str(folders[1]): 2}, {str(folders[0]): 1})
    assert (second.broken, second.conflicts) == ({}, [["cat/6.png", "dog/7.png"]])


def test_tables_are_looked_through(tmp_path, pictures):
    path = write_file(tmp_path / "a.csv", "text,label\nx,a\nx,a \ny,b\nx,a\nz,B\n")
    (report,) = inspect_data([path], label_column="label")
    assert (report.items, report.broken, report.sizes) == (5, {}, {})
    assert report.similar_labels == [["B", "b"], ["a", "a "]]
    assert report.duplicates == report.conflicts == [["row 0", "row 1", "row 3"]]
    (report,) = inspect_data([pictures], image_column="path", label_column="label", split="validation")
    assert (report.items, report.classes, report.sizes) == (4, 2, {"4x6": 4})
    (pictures.parent / "pictures" / "6.png").unlink()
    (report,) = inspect_data([pictures], image_column="path", label_column="label")
    assert list(report.broken) == ["pictures/6.png"]
    np.savez(tmp_path / "a.npz", x=np.array([[0.0, 1], [np.nan, 1], [0, 1]]), y=[0, 1, 2])
    (report,) = inspect_data([tmp_path / "a.npz"], input_column="x", label_column="y")
    assert (list(report.broken), report.duplicates) == (["row 1"], [["row 0", "row 2"]])
    missing = write_file(tmp_path / "b.csv", "text,label\nx,a\n,b\n")
    (report,) = inspect_data([missing], label_column="label")
    assert "must not have missing values, got them at rows (from 0) 1" in report.broken[str(missing)]


def test_splits_in_a_folder(tmp_path, pillow):
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        pillow.new("RGB", (6, 4)).save(tmp_path / split / "cat" / "1.png")
    assert inspect_data([tmp_path])[0].splits == ["test", "train"]


# The command ---------------------------------------------------------------------------------------------


def run(*arguments):
    typer_testing = pytest.importorskip("typer.testing")
    from finetuner.cli.commands import app

    return typer_testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_table_and_the_exit_code(folders):
    result = run("check", *folders)
    assert result.exit_code == 1
    lines = [line.split() for line in result.output.splitlines()]
    assert ["items", "8", "3"] in lines
    assert ["broken", "1", "0"] in lines
    assert ["groups", "of", "similar", "labels", "2", "0"] in lines
    assert "cat/1.png, cat/same.bmp" in result.output
    assert f"{folders[1]} 2" in result.output
    assert run("check", folders[1]).exit_code == 0


def test_json_is_complete(folders):
    result = run("check", *folders, "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)["data"]
    assert found == [report.as_dict() for report in inspect_data(folders)]


def test_long_lists_are_cut(tmp_path):
    lines = "".join(f"{i},class {i}\n" for i in range(9))
    path = write_file(tmp_path / "a.csv", f"text,label\n{lines}")
    short, whole = (run("check", path, "--label-column", "label", *more).output for more in ([], ["--all"]))
    assert "class 4\n  and 4 more (--all shows them)" in short
    assert "class 8" not in short
    assert "class 8" in whole


def test_escapes_are_not_sent_to_the_terminal(tmp_path):
    path = write_file(tmp_path / "a.csv", "text,label\na,x\x1b[2Jy\nb,X\x1b[2Jy\n")
    result = run("check", path, "--label-column", "label")
    assert "\x1b[2J" not in result.output
    assert r"x\x1b[2Jy" in result.output


def test_options_of_tables(tmp_path):
    path = write_file(tmp_path / "a.csv", "café;x\ncafé;y\n".encode("cp1252"))
    options = ("--column-names", "text,label", "--separator", ";", "--label-column", "label", "--json")
    assert run("check", path, *options).exit_code == 1
    found = json.loads(run("check", path, *options, "--encoding", "cp1252").output)["data"][0]
    assert (found["items"], found["conflicts"]) == (2, [["row 0", "row 1"]])


def test_what_is_not_there(tmp_path):
    result = run("check", tmp_path / "none.csv")
    assert (result.exit_code, "none" in result.output) == (1, True)


def test_options_of_tables_are_used_to_find_queries(tmp_path):
    path = write_file(tmp_path / "a.csv", "x^is_query^is_gallery\na^1^0\nb^0^1\n")
    assert has_query_and_gallery(path, separator="^")


def test_all_columns_are_looked_through_if_none_is_named(tmp_path):
    path = write_file(tmp_path / "a.csv", "a,b\nx,1\nx,2\nx,1\n")
    (report,) = inspect_data([path])
    assert (report.items, report.broken, report.duplicates) == (3, {}, [["row 0", "row 2"]])
