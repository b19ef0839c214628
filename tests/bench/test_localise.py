"""Both ways give the same answers, from files that hold what they should."""

from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medvlp.bench import localise as bench
from medvlp.bench import localise_published
from medvlp.bench.localise import largest_difference, rows_of
from medvlp.bench.localise_published import Cost, Files, embed_at_full_context
from medvlp.bench.whole_body import Lattice, write_study
from medvlp.prediction.lesion_localiser import LesionStage
from medvlp.prediction.lesion_stage import load_stage
from tests.prediction.lesion_files import write_published

CT, PET = Lattice((20, 64, 64), (6.0, 7.0, 7.0)), Lattice((40, 40, 40), (3.0, 12.0, 12.0))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("bench")
    study = write_study(folder, CT, PET, 4)
    coarse = write_published(folder / "coarse.pth")
    fine = write_published(folder / "fine.pth", crop_size=[32, 16, 16], spacing=[2, 2, 2])
    return Files(study, coarse, fine, "phantom", None, "cpu")


def test_the_study_lies_where_it_should(files: Files) -> None:
    images: list[Any] = [nib.load(path) for path in files.study]
    ct, suv, mask = images
    labels = np.asarray(mask.dataobj)
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(ct.affine, mask.affine) and ct.get_data_dtype() == np.int16
    middles = [image.affine @ [*(np.array(image.shape) - 1) / 2, 1] for image in (ct, suv)]
    assert np.allclose(middles, [0, 0, 0, 1])
    hot = np.argwhere(np.asarray(suv.dataobj) == 8.0)
    world = suv.affine @ np.c_[hot, np.ones(len(hot))].T
    index = np.rint(np.linalg.inv(mask.affine) @ world)[:3].astype(int)
    near = [labels[tuple(slice(max(i - 1, 0), i + 2) for i in one)].any() for one in index.T]
    assert len(near) and all(near)
    with pytest.raises(ValueError, match="of 500 lesions fit"):
        write_study(files.study[0].parent, Lattice((8, 8, 8), (6.0, 6.0, 6.0)), PET, 500)


def test_both_ways_agree(files: Files) -> None:
    published = localise_published.localise_as_published(files, 2)
    whole = bench.localise(files, ["--no-pictures"])
    assert (len(published.answers), len(whole.answers)) == (2, 4)
    assert largest_difference(published.answers, whole.answers) < 1e-5
    rows = rows_of(
        {bench.PUBLISHED: published, "tables": whole}, {bench.PUBLISHED: 0.0, "tables": 0.0}
    )
    assert rows[0]["ratio"] == "1.0x" and rows[1]["lesions"] == 4 and rows[1]["peak MiB"] > 0


def test_rows_are_told_for_each_lesion() -> None:
    first, second = Cost(9.0, 8.0, 1.0, [{"a": 0.5}] * 2), Cost(3.0, 2.0, 1.0, [{"a": 0.5}] * 4)
    rows = rows_of(
        {bench.PUBLISHED: first, "tables": second}, {bench.PUBLISHED: 0.0, "tables": 0.0}
    )
    assert [row["CPU s/lesion"] for row in rows] == [4.0, 0.5] and rows[1]["ratio"] == "8.0x"
    assert largest_difference([{"a": 0.75, "b": 0.25}], [{"a": 1.0}]) == 0.25


def test_texts_at_the_full_context_are_the_same(files: Files) -> None:
    stage: LesionStage = load_stage(files.coarse, "coarse")
    texts = ["in the left lung", "in the upper lobe of the left lung, above the heart"]
    with torch.inference_mode():
        expected = stage.model.embed_text(stage.tokenizer(texts))
        torch.testing.assert_close(embed_at_full_context(stage, texts), expected)
