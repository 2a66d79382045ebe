"""What is in a folder or an archive of images: the images, the files that are left out, and folders that are splits."""

import os
import re
import stat
import zipfile
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .common import error_line, require

__all__ = ["Listing", "image_formats", "list_archive", "list_folder", "split_folders"]

# Folders that programs leave behind. Names that begin with a dot are left out, too.
JUNK_FOLDERS = {"__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "system volume information"}
JUNK_FILES = {"thumbs.db", "desktop.ini"}
# EPS runs another program (Ghostscript) on the file. Of the others Pillow reads only the header.
UNREAD_FORMATS = {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
SPLIT = re.compile(
    r"(train(ing)?|val(id(ation)?)?|test(ing)?|dev|eval(uation)?|holdout|query|queries|gallery)"
    r"([ _-]?(set|split|data|images|imgs|\d+))*"
)

NO_SUFFIX, BROKEN_LINK = "no suffix", "broken link"
SPECIAL_FILE, SEEN_FOLDER = "no regular file", "link to a folder that is read already"
ARCHIVED_LINK = "link in the archive"


class Listing(NamedTuple):
    """The files of a folder or an archive."""

    names: list[str]  # of the images, sorted, with "/" as the separator
    left_out: dict[str, int]  # how many files are no images, by suffix or reason
    without_images: list[str]  # folders with files that are left out, and no image in them or below

    def describe_left_out(self) -> str:
        """``"14 files left out: .heic 9, .txt 5"``, or an empty text."""
        count = sum(self.left_out.values())
        parts = ", ".join(f"{kind} {number:,}" for kind, number in self.left_out.items())
        return f"{count:,} file{'s' if count > 1 else ''} left out: {parts}" if count else ""


def image_formats() -> dict[str, str]:
    """The suffixes that are read as images, each with Pillow's name of the format.

    These are the formats that Pillow can open, with those that a plugin has registered, such as ``pillow_heif``.
    """
    image_module = require("PIL.Image", "images")
    return {
        suffix: name
        for suffix, name in image_module.registered_extensions().items()
        if name in image_module.OPEN and name not in UNREAD_FORMATS
    }


def list_folder(path: Path) -> Listing:
    """The files below a folder. Links are followed; each folder is read once, so a loop of links ends.

    Raises:
        OSError: If a folder cannot be read.
    """
    files: list[str] = []
    reasons: Counter[str] = Counter()
    seen = {_identity(os.stat(path))}
    folders = deque([("", str(path))])
    links: deque[tuple[str, str]] = deque()
    while folders or links:
        if folders:
            prefix, folder = folders.popleft()
        else:  # only now, so that a folder is found by its own name rather than by a link
            prefix, folder = links.popleft()
            if _identity(os.stat(folder)) in seen:
                reasons[SEEN_FOLDER] += 1
                continue
            seen.add(_identity(os.stat(folder)))
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = f"{prefix}{entry.name}"
                if _is_junk(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    seen.add(_identity(os.stat(entry.path)))
                    folders.append((f"{name}/", entry.path))
                elif entry.is_symlink() and not _has_target(entry.path):
                    reasons[BROKEN_LINK] += 1
                elif entry.is_dir():
                    links.append((f"{name}/", entry.path))
                elif entry.is_file():
                    files.append(name)
                else:
                    reasons[SPECIAL_FILE] += 1
    return _listing(files, reasons)


def list_archive(path: Path) -> Listing:
    """The files in a ``.zip``.

    Raises:
        ValueError: If the archive is broken.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} cannot be read: {error_line(error)}") from None
    files = {
        member.filename: stat.S_ISLNK(member.external_attr >> 16)
        for member in members
        if not member.is_dir() and not any(map(_is_junk, member.filename.split("/")))
    }
    links = sum(files.values())
    return _listing([name for name, is_link in files.items() if not is_link], Counter({ARCHIVED_LINK: links}))


def split_folders(class_names: Iterable[str]) -> list[str]:
    """The folders that look like splits of the data, such as ``train`` and ``test``; empty unless there are two.

    Args:
        class_names: Classes, such as ``"train/cat"``. The first folder of each is looked at.
    """
    first = {name.partition("/")[0] for name in class_names}
    splits = sorted(name for name in first if SPLIT.fullmatch(name.lower()))
    return splits if len(splits) > 1 else []


def _listing(files: list[str], reasons: Counter[str]) -> Listing:
    suffixes = image_formats()
    images, others, left_out = [], [], Counter(reasons)
    for name in files:
        suffix = os.path.splitext(name)[1].lower()
        if suffix in suffixes:
            images.append(name)
        else:
            others.append(name)
            left_out[suffix or NO_SUFFIX] += 1
    with_images = {"/".join(parts[:depth]) for parts in _folders(images) for depth in range(len(parts) + 1)}
    without = {"/".join(parts) for parts in _folders(others)} - with_images
    ordered = sorted(((kind, n) for kind, n in left_out.items() if n), key=lambda item: (-item[1], item[0]))
    return Listing(sorted(images), dict(ordered), sorted(without))


def _folders(names: list[str]) -> set[tuple[str, ...]]:
    return {tuple(name.split("/")[:-1]) for name in names}


def _has_target(link: str) -> bool:
    try:
        os.stat(link)
    except OSError:  # nothing is there, a loop of links, or a path that cannot be
        return False
    return True


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK_FOLDERS or name.lower() in JUNK_FILES
