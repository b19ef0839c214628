"""From a report's sections to the texts a network is shown."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from medvlp.data.statements import split_sentences, statement_id, statements_of
from medvlp.data.text_sampler import TextSampler, TextUnit
from medvlp.types import TextKind

# Words that make a sentence of a radiology report one of normality.
NORMAL_PATTERN = (
    r"\b(no|not|without|normal|unremarkable|clear|free|absent|negative|natural|preserved|open)\b"
)
_FINDINGS, _IMPRESSION, _REPORT = "findings", "impression", "report"


class ReportText(TextSampler):
    """The whole report as one text, as HLIP publishes it for CT-RATE (its raw annotation).

    Args:
        template: With the names of sections in braces. Each section gets a final "." if it has
            none; a sentence of the template whose section is missing is left out.
        removed: Characters taken out of the result.
        missing: Stands for a missing section. The published code says "nan" there, an accident of
            reading empty cells; None leaves the sentence out.
    """

    def __init__(
        self,
        template: str = "The volume shows: {impression} The volume looks like: {findings}",
        *,
        removed: str = "\"'()",
        missing: str | None = None,
    ) -> None:
        self.template = template
        self.removed = str.maketrans("", "", removed)
        self.missing = missing
        self._parts = re.findall(r"([^{}]*)\{(\w+)\}", template)
        if not self._parts:
            raise ValueError(f"template is {template!r}, expected a section such as {{findings}}")

    def __call__(
        self, sections: Mapping[str, str], generator: np.random.Generator
    ) -> list[TextUnit]:
        """Fill the template; there is no chance in it."""
        return [TextUnit(self.fill(sections), TextKind.REPORT, statements_of(sections))]

    def lacks(self, sections: Mapping[str, str]) -> tuple[str, ...]:
        """Name the sections of the template that are not there."""
        return tuple(name for _, name in self._parts if name not in sections)

    def fill(self, sections: Mapping[str, str]) -> str:
        """Return the text of these sections."""
        filled: list[str] = []
        for words, name in self._parts:
            section = sections.get(name, self.missing)
            if section is not None:
                filled.append(words + with_full_stop(section))
        text = "".join(filled).translate(self.removed).strip()
        if not text:  # a data set with other sections than the template's
            text = " ".join(map(with_full_stop, sections.values())).translate(self.removed)
        return text


class SentenceSampler(TextSampler):
    """A few sentences of one section, abnormal ones more often than normal ones.

    Reports share most of their normal sentences; with the whole report as one text nearly every
    other study of a batch is a false negative, and a small model learns next to nothing.

    Args:
        max_sentences: 1 to this many, all numbers equally likely.
        texts_per_study: Independent draws; a small text tower makes more of them nearly free.
        section_weights: How likely each section is to be drawn from; 1 for one that is not named.
        abnormal_weight: How many times as likely as a normal sentence an abnormal one is.
        normal_pattern: A sentence in which this regular expression is found counts as normal.
        impression_template: For sentences of the impression; `{text}` is replaced.
        findings_template: For sentences of the findings, or of any other section.
    """

    def __init__(
        self,
        max_sentences: int = 2,
        *,
        texts_per_study: int = 1,
        section_weights: Mapping[str, float] | None = None,
        abnormal_weight: float = 3.5,
        normal_pattern: str = NORMAL_PATTERN,
        impression_template: str = "The volume shows: {text}",
        findings_template: str = "The volume looks like: {text}",
    ) -> None:
        if max_sentences < 1 or texts_per_study < 1 or abnormal_weight <= 0:
            raise ValueError(
                f"max_sentences is {max_sentences}, texts_per_study {texts_per_study} and "
                f"abnormal_weight {abnormal_weight}; expected at least 1, 1 and more than 0"
            )
        self.max_sentences = max_sentences
        self.texts_per_study = texts_per_study
        self.section_weights = dict(section_weights or {})
        self.abnormal_weight = abnormal_weight
        self.normal = re.compile(normal_pattern, re.IGNORECASE)
        self.templates = {_IMPRESSION: impression_template, _FINDINGS: findings_template}

    def __call__(
        self, sections: Mapping[str, str], generator: np.random.Generator
    ) -> list[TextUnit]:
        """Draw texts: each from one section, distinct sentences of it in their order."""
        return [self._draw(sections, generator) for _ in range(self.texts_per_study)]

    def _draw(self, sections: Mapping[str, str], generator: np.random.Generator) -> TextUnit:
        names = sorted(sections)
        shares = np.array([self.section_weights.get(name, 1.0) for name in names])
        if not shares.any():  # only sections that are not wanted where there are others
            shares = np.ones(len(names))
        name = names[int(generator.choice(len(names), p=shares / shares.sum()))]
        sentences = list(dict.fromkeys(split_sentences(sections[name]))) or [sections[name]]
        weights = np.array(
            [1.0 if self.normal.search(s) else self.abnormal_weight for s in sentences]
        )
        count = min(int(generator.integers(1, self.max_sentences + 1)), len(sentences))
        chosen = generator.choice(len(sentences), count, replace=False, p=weights / weights.sum())
        picked = [sentences[index] for index in sorted(chosen)]
        template = self.templates.get(name, self.templates[_FINDINGS])
        text = template.replace("{text}", " ".join(map(with_full_stop, picked)))
        return TextUnit(text, TextKind.SENTENCE, tuple(sorted(map(statement_id, picked))))


class SectionTexts(TextSampler):
    """One short and one long text of each study, for towers with a token for each.

    The modes of the published HLIP repository (github.com/Zch0414/hlip, from 2025-11 on): the short
    text is a random sentence of the impression; the long one is all sentences of the findings in a
    random order ("sentence and findings"), or the report ("sentence and report"). Where a report
    has no impression, the sentence is one of the report or the findings; where it has no findings,
    their place is taken by the report or the impression: every study has both texts.

    Args:
        mode: "sentence and findings" or "sentence and report".
        sentence_template: Of the short text; `{text}` is replaced.
        findings_template: Of the shuffled findings; `{text}` is replaced.
        report_template: Of the report, see `ReportText`.
    """

    def __init__(
        self,
        mode: str = "sentence and findings",
        *,
        sentence_template: str = "This study shows: {text}",
        findings_template: str = "This study looks like: {text}",
        report_template: str = "This study shows: {impression} This study looks like: {findings}",
    ) -> None:
        if mode not in ("sentence and findings", "sentence and report"):
            raise ValueError(
                f"mode is {mode!r}, expected 'sentence and findings' or 'sentence and report'"
            )
        self.mode = mode
        self.sentence_template, self.findings_template = sentence_template, findings_template
        self.report = ReportText(report_template, removed="")

    def __call__(
        self, sections: Mapping[str, str], generator: np.random.Generator
    ) -> list[TextUnit]:
        """Draw the sentence and make the long text, in this order."""
        sentences = _sentences(sections, (_IMPRESSION, _REPORT, _FINDINGS))
        picked = sentences[int(generator.integers(len(sentences)))]
        text = self.sentence_template.replace("{text}", with_full_stop(picked))
        short = TextUnit(text, TextKind.SENTENCE, (statement_id(picked),))
        long = self._findings if self.mode == "sentence and findings" else self._report
        return [short, long(sections, generator)]

    def lacks(self, sections: Mapping[str, str]) -> tuple[str, ...]:
        """Name which of impression and findings are not there."""
        return tuple(name for name in (_IMPRESSION, _FINDINGS) if name not in sections)

    def _findings(self, sections: Mapping[str, str], generator: np.random.Generator) -> TextUnit:
        sentences = _sentences(sections, (_FINDINGS, _REPORT, _IMPRESSION))
        shuffled = [sentences[int(index)] for index in generator.permutation(len(sentences))]
        text = self.findings_template.replace("{text}", " ".join(map(with_full_stop, shuffled)))
        return TextUnit(text, TextKind.FINDINGS, tuple(sorted(map(statement_id, set(shuffled)))))

    def _report(self, sections: Mapping[str, str], generator: np.random.Generator) -> TextUnit:
        parts = {name: sections[name] for name in (_IMPRESSION, _FINDINGS) if name in sections}
        if not parts and _REPORT in sections:
            parts = {_REPORT: sections[_REPORT]}
        parts = parts or sections
        return TextUnit(self.report.fill(parts), TextKind.REPORT, statements_of(parts))


class PermutedText(TextSampler):
    """All strings of a report in a random order, as one text: HLIP v1's training text.

    Of an annotation file (`medvlp.data.annotation_file`) every string is one section. Published for
    chest CT: template "{text}"; for brain MRI and head CT: "This MRI study shows: {text}".

    Args:
        template: `{text}` is replaced by the strings, joined by spaces.
        unit: "section" permutes sections as they are, "sentence" the sentences of all of them.
        sections: The first of these that a report has is taken; where it has none of them, or by
            default, all there are.
    """

    def __init__(
        self, template: str = "{text}", *, unit: str = "section", sections: Sequence[str] = ()
    ) -> None:
        if unit not in ("section", "sentence") or "{text}" not in template:
            raise ValueError(
                f"unit is {unit!r} and template {template!r}, expected 'section' or 'sentence', "
                "and a template with {text}"
            )
        self.template, self.unit, self.sections = template, unit, tuple(sections)

    def __call__(
        self, sections: Mapping[str, str], generator: np.random.Generator
    ) -> list[TextUnit]:
        """Permute the strings and fill the template."""
        name = next((name for name in self.sections if name in sections), None)
        strings = [sections[name]] if name else list(sections.values())
        statements = statements_of(strings)
        if self.unit == "sentence":
            found = [sentence for string in strings for sentence in split_sentences(string)]
            strings = [with_full_stop(sentence) for sentence in found] or strings
        order = generator.permutation(len(strings))
        text = " ".join(strings[int(index)] for index in order)
        return [TextUnit(self.template.replace("{text}", text), TextKind.REPORT, statements)]


def _sentences(sections: Mapping[str, str], order: tuple[str, ...]) -> list[str]:
    """Cut the first section there is into its distinct sentences; all of them where none is."""
    name = next((name for name in order if name in sections), None)
    text = sections[name] if name else " ".join(map(with_full_stop, sections.values()))
    return list(dict.fromkeys(split_sentences(text))) or [text]


def with_full_stop(section: str) -> str:
    """Strip a text and end it with a full stop.

    >>> with_full_stop(" No nodule ")
    'No nodule.'
    """
    section = section.strip()
    return section if section.endswith(".") else f"{section}."
