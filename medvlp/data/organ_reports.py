"""Reports that were split by organ beforehand, beside the studies of any data set."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from medvlp.data.decomposed_report import OrganTexts, organ_sections
from medvlp.data.organ_captions import read_organ_texts
from medvlp.data.records import Skip, StudyRecord, StudySource

_EMPTY = "."  # what the published code makes of an empty text; a section must not be empty


class WithOrganTexts(StudySource):
    """A data set with the two files of fVLM's decomposed reports, study -> organ -> text.

    They become the sections "findings/<organ>" and "impression/<organ>", for
    `OrganCaptionSampler`. Files of one's own come from
    `python -m medvlp.data.report_decomposition`, by rules or from a language model's answers.

    Args:
        source: The data set; its study ids are the names in the files ("train_1_a").
        descriptions: What findings say (`desc_info.json`); None changes nothing.
        conclusions: What impressions say (`conc_info.json`).

    Raises:
        ValueError: If only one file is given.
    """

    def __init__(
        self,
        source: StudySource,
        descriptions: str | None = None,
        conclusions: str | None = None,
    ) -> None:
        if (descriptions is None) != (conclusions is None):
            raise ValueError(
                f"descriptions are {descriptions} and conclusions {conclusions}; give both files, "
                "or neither"
            )
        self.name, self.label_names = source.name, source.label_names
        self.source = source
        self._files = (descriptions, conclusions) if descriptions and conclusions else None
        self.skips: list[Skip] = []

    def materialise(self) -> None:
        """Let the data set write itself."""
        self.source.materialise()

    def describe(self) -> dict[str, Any]:
        """State which data set this is, and where the files lie."""
        files = [str(Path(path).resolve()) for path in self._files or ()]
        return self.source.describe() | ({"organ_texts": files} if files else {})

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the studies of the data set with the sections of their organs.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If one is of another layout, or neither names a study of the data set.
        """
        if self._files is None:
            yield from self.source.studies()
            self.skips = list(self.source.skips)
            return
        descriptions, conclusions = map(read_organ_texts, self._files)
        unused = dict.fromkeys((*descriptions, *conclusions))
        skips: list[Skip] = []
        found = False
        for study in self.source.studies():
            name = study.study_id
            if name in unused:
                found = True
                del unused[name]
            texts = _sections(descriptions.get(name, {}), conclusions.get(name, {}))
            if not texts:
                skips.append(Skip(name, f"{self._names} say nothing of its organs"))
            yield replace(study, texts={**study.texts, **texts})
        if not found:
            raise ValueError(
                f"{self._names} name none of the studies of {self.name}; the files have "
                f"{next(iter(unused), 'nothing')!r}, a study is called {_first(self.source)!r}"
            )
        skips += [Skip(name, f"{self._names}: the data set has no such study") for name in unused]
        self.skips = [*self.source.skips, *skips]

    @property
    def _names(self) -> str:
        return " and ".join(Path(path).name for path in self._files or ())


def _sections(descriptions: OrganTexts, conclusions: OrganTexts) -> dict[str, str]:
    texts = organ_sections(descriptions, conclusions)
    return {name: text if text.strip() else text + _EMPTY for name, text in texts.items()}


def _first(source: StudySource) -> str:
    return next((study.study_id for study in source.studies()), "")
