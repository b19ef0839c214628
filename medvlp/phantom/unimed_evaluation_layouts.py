"""Tables, folders and file names of the 21 sets that UniMed-CLIP is evaluated on.

Where images and labels are, the registry of sets says; the rest of the columns is as far as it is
known (github.com/mbzuai-oryx/UniMed-CLIP, clipeval/datasets.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medvlp.data.catalogue_sets import CatalogueSet, FolderLayout, NameLayout, TableLayout
from medvlp.phantom.tables import Row, write_table

_CHEXPERT = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
_LISTED = ("number", "image", "atributes", "categories")  # sic, as in FLAIR's tables
_HEADERS: dict[str, tuple[str, ...]] = {
    "chexpert-5x200": ("imgpath", *_CHEXPERT),
    "rsna_pneumonia": ("number", "file", "label"),
    "CT_axial": ("file", "number", "label", "split"),
    "CT_coronal": ("file", "number", "label", "split"),
    "CT_sagittal": ("file", "number", "label", "split"),
    "dr_regular": ("file", "number", "label", "split"),
    "refuge_retina": _LISTED,
    "five_retina": _LISTED,
    "odir_retina": _LISTED,
    "skin_cancer": ("number", "file", "class", "set"),
    "skin_tumor": ("number", "file", "class", "set"),
}
_SUFFIXES = {"PCAM": "png", "NCK_CRC": "tif", "BACH": "tif", "LC25000_lung": "jpeg"}
_SUFFIXES |= {"LC25000_colon": "jpeg", "rsna_pneumonia": "png"}

OTHER_SPLIT = {"test": "train", "Test": "Training"}


@dataclass(frozen=True)
class PlacedImage:
    """An image of a set.

    Attributes:
        number: Unique in its set.
        label: Class index.
        held_out: Whether it is of the split that is scored.
        cell: What the table says in place of the path; empty for sets without a table.
        path: Below the folder of the set.
    """

    number: int
    label: int
    held_out: bool
    cell: str
    path: str


def place(one: CatalogueSet, number: int, label: int, *, held_out: bool) -> PlacedImage:
    """Name the file of an image."""
    layout, suffix = one.layout, _SUFFIXES.get(one.name, "jpg")
    if isinstance(layout, FolderLayout):
        path = f"{layout.folder}/{layout.folders[label]}/image{number:05d}.{suffix}"
        return PlacedImage(number, label, held_out, "", path.lstrip("/"))
    if isinstance(layout, NameLayout):
        path = f"{layout.folder}/{number:05d}_{label}.{suffix}"
        return PlacedImage(number, label, held_out, "", path.lstrip("/"))
    cell = {
        "chexpert-5x200": f"train/patient{number:05d}/study1/view1_frontal.jpg",
        "odir_retina": f"ODIR/{number}_{('left', 'right')[number % 2]}.jpg",
    }.get(one.name, f"{one.name}_{number:05d}.{suffix}")
    within = f"{layout.labels[label]}/" if layout.image_in_label_folder else ""
    return PlacedImage(number, label, held_out, cell, f"{layout.folder}/{within}{cell}".lstrip("/"))


def write_set_table(
    one: CatalogueSet,
    folder: Path,
    local_data: Path,
    images: Sequence[PlacedImage],
    extra: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the table of a set, if it has one.

    Args:
        one: The set.
        folder: Of the set.
        local_data: Of the tables that do not lie with the images.
        images: Its rows.
        extra: Further rows, cell of the image and cell of the label.
    """
    layout = one.layout
    if not isinstance(layout, TableLayout):
        return
    header = _HEADERS.get(one.name, ("file", "label"))
    rows = [_row(layout, header, image) for image in images]
    for cell, label in extra:
        assert isinstance(layout.label, int)
        row = _row(layout, header, PlacedImage(0, 0, True, cell, ""))
        rows.append({**row, header[layout.label]: label})
    write_table((local_data if layout.local else folder) / layout.table, header, rows)


def _row(layout: TableLayout, header: Sequence[str], image: PlacedImage) -> Row:
    named = layout.image if isinstance(layout.image, str) else header[layout.image]
    row: dict[str, str | int] = {"number": image.number} if "number" in header else {}
    row[named] = image.cell
    for column, wanted in layout.where.items():
        row[column] = wanted if image.held_out else OTHER_SPLIT[wanted]
    if layout.one_hot:
        names = _CHEXPERT
        return row | {name: int(name == layout.one_hot[image.label]) for name in names}
    assert isinstance(layout.label, int)
    label = layout.labels[image.label]
    row[header[layout.label]] = f"['{label}']" if layout.in_list else label
    return row
