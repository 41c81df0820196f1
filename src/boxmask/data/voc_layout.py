"""Tells which XML files of a Pascal VOC folder make up each split, and where its pictures are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from boxmask.data.coco_layout import split_of_folder
from boxmask.data.pictures import is_picture
from boxmask.data.spelling import as_stored, composed

PICTURE_FOLDERS = ("JPEGImages", "images")
"""Folders of pictures, written in any case."""

CLASS_FILES = ("class_names.txt", "classes.txt", "labels.txt", "labelmap.txt")
"""Files that may list class names, one a line."""


@dataclass(frozen=True, kw_only=True)
class VocSplit:
    """One split of a VOC folder.

    Attributes:
        name: the split.
        source: the list file, or the folder, that says what belongs to it.
        annotations: folder that names of XML files are relative to.
        pictures: folders that pictures are looked for in, likeliest first.
        masks: folder of index pictures; need not exist.
        stems: the pictures' names without ending, relative to `annotations`.
    """

    name: str
    source: Path
    annotations: Path
    pictures: Sequence[Path]
    masks: Path
    stems: Sequence[str]

    def xml_file(self, stem: str) -> Path:
        """The annotation file of a picture."""
        return as_stored(self.annotations / f"{stem}.xml")

    def mask_file(self, stem: str) -> Path | None:
        """The index picture of a picture's objects, if there is one."""
        path = as_stored(self.masks / f"{stem}.png")
        return path if path.is_file() else None

    def find_picture(self, stem: str, file_name: str) -> tuple[Path, str] | None:
        """The picture file and its name in the data set; None when it is nowhere.

        The XML's own name counts first, `file_name` of its content second: many tools leave an
        old name in there.
        """
        stem = composed(stem)
        for folder, by_stem in self.pictures_by_stem:
            if stem in by_stem:
                return by_stem[stem], by_stem[stem].relative_to(folder).as_posix()
        for folder in self.pictures:
            path = as_stored(folder / file_name.replace("\\", "/"))
            if file_name and path.is_file():
                return path, path.name
        return None

    @cached_property
    def pictures_by_stem(self) -> list[tuple[Path, dict[str, Path]]]:
        """Each folder's pictures by their name without ending, composed."""
        index = []
        for folder in self.pictures:
            files = sorted(path for path in folder.rglob("*") if is_picture(path))
            stems = [path.relative_to(folder).with_suffix("").as_posix() for path in files]
            index.append((folder, dict(zip(map(composed, stems), files, strict=True))))
        return index


def voc_root(root: Path) -> Path | None:
    """The folder that holds VOC files: `root`, or the one folder of a VOCdevkit; else None."""
    if _has_voc_files(root):
        return root
    devkit = [path for path in sorted(root.iterdir()) if path.name.lower().startswith("voc")]
    below = [path for path in devkit if path.is_dir() and _has_voc_files(path)]
    return below[0] if len(below) == 1 else None


def voc_splits(root: Path) -> list[VocSplit]:
    """The splits of a VOC folder: by ImageSets, by folders named like splits, or just one."""
    annotations = _annotation_folder(root)
    if annotations is not None:
        return _splits_by_list(root, annotations)
    named = [
        path for path in sorted(root.iterdir()) if path.is_dir() and split_of_folder(path.name)
    ]
    splits = [
        _split_of_folder_folder(split_of_folder(path.name) or "train", path) for path in named
    ]
    splits = [split for split in splits if split.stems]
    order = ("train", "val", "test")
    return sorted(splits, key=lambda s: order.index(s.name)) or [
        _split_of_folder_folder("train", root)
    ]


def class_file(root: Path) -> Path | None:
    """The first file of the folder that lists class names, if any."""
    return next((root / name for name in CLASS_FILES if (root / name).is_file()), None)


def _in_any_case(root: Path, name: str) -> Path:
    """The sub-folder of this name, in whatever case; `root / name` where there is none."""
    found = [p for p in sorted(root.iterdir()) if p.name.lower() == name.lower() and p.is_dir()]
    exact = root / name
    return exact if exact in found or not found else found[0]


def _annotation_folder(root: Path) -> Path | None:
    """The sub-folder of XML files, if there is one."""
    folder = _in_any_case(root, "Annotations")
    return folder if next(folder.rglob("*.xml"), None) is not None else None


def _has_voc_files(root: Path) -> bool:
    named = [path for path in root.iterdir() if path.is_dir() and split_of_folder(path.name)]
    return (
        _annotation_folder(root) is not None
        or next(root.glob("*.xml"), None) is not None
        or any(next(folder.rglob("*.xml"), None) is not None for folder in named)
    )


def _splits_by_list(root: Path, annotations: Path) -> list[VocSplit]:
    """Splits of the classic layout; all XML files are `train` when no list is there."""
    lists: dict[str, Path] = {}
    sets = _in_any_case(root, "ImageSets")
    for kind in ("Main", "Segmentation", "Layout"):
        for name in ("train", "val", "test", "trainval"):
            file = sets / kind / f"{name}.txt"
            if file.is_file():
                lists.setdefault(name, file)
    if "train" not in lists and "trainval" in lists:
        lists["train"] = lists["trainval"]
    chosen = [(name, lists[name]) for name in ("train", "val", "test") if name in lists]
    if not chosen:
        return [_classic_split("train", annotations, annotations, _stems(annotations))]
    return [
        _classic_split(name, file, annotations, _listed_stems(file, annotations))
        for name, file in chosen
    ]


def _classic_split(name: str, source: Path, annotations: Path, stems: list[str]) -> VocSplit:
    root = annotations.parent
    pictures = [_in_any_case(root, folder) for folder in PICTURE_FOLDERS]
    return VocSplit(
        name=name,
        source=source,
        annotations=annotations,
        pictures=[folder for folder in (*pictures, annotations) if folder.is_dir()],
        masks=_in_any_case(root, "SegmentationObject"),
        stems=stems,
    )


def _split_of_folder_folder(name: str, folder: Path) -> VocSplit:
    """A split kept in its own folder, XML files beside the pictures or in Annotations/."""
    annotations = _annotation_folder(folder)
    if annotations is not None:
        return _classic_split(name, folder, annotations, _stems(annotations))
    pictures = [folder, *(_in_any_case(folder, name) for name in reversed(PICTURE_FOLDERS))]
    return VocSplit(
        name=name,
        source=folder,
        annotations=folder,
        pictures=[path for path in pictures if path.is_dir()],
        masks=_in_any_case(folder, "SegmentationObject"),
        stems=_stems(folder),
    )


def _stems(folder: Path) -> list[str]:
    files = sorted(folder.rglob("*.xml"))
    return [file.relative_to(folder).as_posix().removesuffix(".xml") for file in files]


def _listed_stems(file: Path, annotations: Path) -> list[str]:
    """Names of a list file; a trailing -1, 0 or 1, as class lists have it, is cut."""
    stems = []
    for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        stem = line.strip()
        first, _, last = stem.rpartition(" ")
        if first and last in ("-1", "0", "1") and not (annotations / f"{stem}.xml").is_file():
            stem = first.strip()
        if stem:
            stems.append(stem)
    return list(dict.fromkeys(stems))
