"""Questions and answers about a study, as a language model is taught."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.random import Generator

from medvlp.data.plain_report import PlainReport
from medvlp.data.statements import statements_of
from medvlp.data.text_sampler import Sections, Target, TextSampler, TextUnit
from medvlp.prompts.question_set import REPORT, QuestionSet
from medvlp.types import TextKind

_SUBJECT = "{abnormality}"


class Conversations(TextSampler):
    """One question of each sample, and its answer.

    A sample that is about a question of its data set (see `RandomQuestion`, `EachQuestion`) is
    asked that, and the answer is the data set's. Any other sample is asked for its report.
    Training draws among the wordings of a kind; evaluations ask for every report in the same
    words, and put a question as the data set words it.

    Args:
        questions: Name of a shipped question set, or path of a YAML file.
        answer: From a report to the answer that is learned.
        reword: Draw among wordings of questions of a data set while training, where the set has
            some of that kind and the question says what it is after.

    Raises:
        ValueError: If the question set has none about reports, or `answer` is to be cut at random.
    """

    def __init__(
        self,
        questions: str = "hsenet",
        *,
        answer: PlainReport | None = None,
        reword: bool = True,
    ) -> None:
        self.questions = QuestionSet.load(questions)
        if REPORT not in self.questions.wordings:
            kinds = sorted(self.questions.wordings)
            raise ValueError(f"question set {questions} has {kinds} and no {REPORT!r}; add some")
        self.answer, self.reword = answer or PlainReport(), reword
        if self.answer.cut is not None:
            raise ValueError(
                "answers are not cut at random; leave out data.texts.answer.cut: tokenizer.cut "
                "says where a long answer ends"
            )

    def __call__(self, sections: Sections, generator: Generator) -> list[TextUnit]:
        """Ask for the report, in one of the wordings."""
        return [self._report(_drawn(self.questions.wordings[REPORT], generator), sections)]

    def evaluation(self, sections: Sections, generator: Generator) -> list[TextUnit]:
        """Ask for the report in the words of every evaluation."""
        question = self.questions.evaluation.get(REPORT, self.questions.wordings[REPORT][0])
        return [self._report(question, sections)]

    def about(
        self, sections: Sections, target: Target, generator: Generator, *, training: bool
    ) -> list[TextUnit]:
        """Ask what the sample is about; without a question and a report, the answer is empty."""
        if target is None or "question" not in target:
            return (self if training else self.evaluation)(sections, generator)
        question, answer = str(target["question"]), str(target["answer"])
        if training and self.reword:
            question = self._reworded(target, generator) or question
        return [TextUnit(answer, TextKind.SENTENCE, statements_of([answer]), question=question)]

    def has_texts(self, study: Mapping[str, Any]) -> bool:
        """Tell whether a study has a report or questions."""
        return self.answer.has_texts(study) or bool(study.get("questions"))

    def lacks(self, sections: Sections) -> tuple[str, ...]:
        """Name the sections of the answer that are not there."""
        return self.answer.lacks(sections) if sections else ()

    def _report(self, question: str, sections: Sections) -> TextUnit:
        statements = statements_of(self.answer.wanted(sections))
        return TextUnit(self.answer.text(sections), TextKind.REPORT, statements, question=question)

    def _reworded(self, target: Mapping[str, Any], generator: Generator) -> str | None:
        subject = target.get("subject")
        wordings = self.questions.wordings.get(str(target.get("kind")))
        if not subject or not wordings:
            return None
        return _drawn(wordings, generator).replace(_SUBJECT, str(subject))


def _drawn(wordings: Sequence[str], generator: Generator) -> str:
    return wordings[int(generator.integers(len(wordings)))]
