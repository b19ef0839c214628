from pathlib import Path

import pytest

from medvlp.data.radgenome import RadGenome
from medvlp.data.records import Question, StudyRecord

from .conftest import write_table

NAME = "train_1_a_1.nii.gz"
NESTED = (
    "lung",
    "lung/lung",
    "lung/lung/right lung",
    "lung/lung/right lung/right lung upper lobe",
    "lung/lung/lung upper lobe/right lung upper lobe",
)


class Tree:
    """The files of one split, whose rows a test may change before they are written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.dataset = root / "dataset"
        shared = {"Volumename": NAME}
        places = [shared | {"Anatomy": path, "Abnormality": "nodule"} for path in NESTED]
        self.tables: dict[str, list[dict[str, object]]] = {
            "region_report": [
                shared | {"Anatomy": "", "Sentence": "Compared with none."},
                shared | {"Anatomy": "lung/lung", "Sentence": "A nodule."},
                shared | {"Anatomy": "trachea and bronchie", "Sentence": "Open."},
                shared | {"Anatomy": "lung", "Sentence": "A nodule."},
            ],
            "vqa_abnormality": places[:1],
            "vqa_location": [
                *places,
                shared | {"Anatomy": "pleura/pleura", "Abnormality": "effusion"},
                shared | {"Anatomy": "mediastinum/aorta", "Abnormality": "plaque"},
                shared | {"Anatomy": "abdomen/abdomen/aorta", "Abnormality": "plaque"},
            ],
            "vqa_presence": [
                shared | {"Anatomy": "lung", "Finding": "mass", "Presence": "No."},
            ],
            "vqa_size": [
                shared | {"Anatomy": "lung", "Abnormality": "nodule", "Size": "6x4 mm"},
            ],
            "case_disorders": [shared | {"Disorders": "nodule, cyst"}],
        }

    def write(self) -> Path:
        for name, rows in self.tables.items():
            write_table(self.dataset / "radgenome_files" / f"train_{name}.csv", rows)
        folder = self.dataset / "train_preprocessed/train_1/train_1a"
        folder.mkdir(parents=True)
        (folder / NAME).touch()
        return self.root


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def read_all(root: Path, **options: object) -> tuple[list[StudyRecord], dict[str, str]]:
    source = RadGenome(str(root), splits=["train"], **options)
    studies = list(source.studies())
    return studies, {skip.id: skip.reason for skip in source.skips}


def test_sentences_by_region(tree: Tree) -> None:
    (study,), skips = read_all(tree.write())
    assert not skips
    assert study.texts == {
        "findings": "Compared with none. A nodule. Open.",
        "lung": "A nodule.",
        "trachea_and_bronchie": "Open.",
    }
    assert (study.study_id, study.patient_id, study.split) == ("train_1_a", "train_1", "train")
    assert (study.scans[0].spacing_mm, study.scans[0].orientation) == ((3.0, 1.0, 1.0), "SPL")


def test_every_kind_of_question(tree: Tree) -> None:
    (study,), _ = read_all(tree.write())
    by_kind: dict[str, list[Question]] = {}
    for question in study.questions:
        by_kind.setdefault(question.kind, []).append(question)
    assert by_kind["abnormality"] == [
        Question("What are the abnormalities in the lung?", "Nodule.", "abnormality")
    ]
    assert by_kind["presence"] == [
        Question("Can mass be identified in the lung?", "No.", "presence", ("Yes.", "No."), "mass")
    ]
    assert by_kind["size"][0].answer == "6x4 mm"
    assert by_kind["disorder"][0].answer == "Nodule, cyst."
    assert by_kind["report"][0].question == "What does the whole scan look like?"
    assert [(question.question, question.answer) for question in by_kind["location"]] == [
        ("Where is the nodule located in the image?", "Lung/Right lung upper lobe"),
        ("Where is the effusion located in the image?", "Pleura"),
        ("Where is the plaque located in the image?", "Mediastinum/Aorta"),
        ("Where is the plaque located in the image?", "Abdomen/Aorta"),
    ]


def test_every_nested_place_on_request(tree: Tree) -> None:
    (study,), _ = read_all(tree.write(), questions=["location"], finest_places=False)
    answers = [question.answer for question in study.questions]
    assert answers[:3] == ["Lung", "Lung/lung", "Lung/lung/right lung"] and len(answers) == 8


def test_wordings_are_chosen_once_and_for_all(tree: Tree) -> None:
    tree.write()
    wordings = {"location": [f"{n}: {{abnormality}}?" for n in range(20)]}
    first, second = (
        [
            q.question
            for q in read_all(tree.root, questions=["location"], wordings=wordings)[0][0].questions
        ]
        for _ in range(2)
    )
    assert first == second and len({text.split(":")[0] for text in first}) > 1
    assert first[0].endswith(": nodule?")


def test_masks_are_companions_by_region(tree: Tree) -> None:
    folder = tree.dataset / "train_region_mask/seg_train_1_a_1"
    folder.mkdir(parents=True)
    (folder / "trachea and bronchie.nii.gz").touch()
    (study,), skips = read_all(tree.write(), masks=["trachea and bronchie", "heart"])
    assert list(study.scans[0].companions) == ["mask_trachea_and_bronchie"]
    assert skips == {NAME: "no mask of the heart"}


def test_what_is_left_out_is_named(tree: Tree) -> None:
    other = {"Volumename": "train_2_a_1.nii.gz"}
    tree.tables["vqa_presence"] += [
        {"Volumename": "../x", "Anatomy": "", "Finding": "mass", "Presence": "No."},
        other | {"Anatomy": "", "Finding": "mass", "Presence": "No."},
        {"Volumename": NAME, "Anatomy": "lung", "Finding": "mass", "Presence": "maybe"},
    ]
    tree.tables["region_report"] = [other | {"Anatomy": "lung", "Sentence": "Clear."}]
    studies, skips = read_all(tree.write(), questions=["presence"])
    assert len(studies) == 1 and len(studies[0].questions) == 1
    assert "not a CT-RATE volume name" in skips["../x"]
    assert "Presence is 'maybe'" in skips[NAME]
    assert skips["train_2_a_1.nii.gz"] == "listed in the tables, but the file is not there"
    assert "without sentences" in skips["train_1_a"]


def test_missing_data_set_and_senseless_options(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"RadGenome/RadGenome-ChestCT.*phantom radgenome"):
        read_all(tmp_path)
    for options, message in (
        ({"questions": ["where"]}, r"questions has \['where'\]"),
        ({"masks": ["lungs"]}, "masks has"),
        ({"orientation": "SPX"}, "expected three letters"),
    ):
        with pytest.raises(ValueError, match=message):
            RadGenome("x", **options)
