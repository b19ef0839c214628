"""What a study is asked: findings of a prompt set, findings in the user's words, whole prompts."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.evaluation.prompt_evaluation import class_embeddings
from medvlp.evaluation.zero_shot import ZeroShotClassification, pair_probabilities
from medvlp.prediction.predictor import Predictor, PromptedEvaluation

Rule = Literal["pair", "choice", "cosine"]


class Question(NamedTuple):
    """One finding and how it is put to the model.

    Attributes:
        name: Of the finding, or the prompt itself.
        positive: Sentences whose mean embedding says that it is there.
        negative: Sentences that say that it is not; empty if there are none.
        rule: pair: probability against the negative sentences; choice: among all findings that
            are asked by this rule; cosine: similarity alone.
        source: Where the sentences come from.
    """

    name: str
    positive: list[str]
    negative: list[str]
    rule: Rule
    source: str


class Answers(NamedTuple):
    """Answers to all questions.

    Attributes:
        scores: Probability or, by the rule "cosine", similarity.
        positive: Embeddings of the sentences.
        negative: The same; zeros where there are none.
    """

    scores: Float[Tensor, " k"]
    positive: Float[Tensor, "k e"]
    negative: Float[Tensor, "k e"]


def questions_of(
    evaluation: PromptedEvaluation | None,
    name: str,
    *,
    findings: Sequence[str],
    prompts: Sequence[str],
) -> list[Question]:
    """Put together what is asked.

    Args:
        evaluation: Gives prompt set, template and score rule.
        name: Of the evaluation.
        findings: Of the prompt set, or in free words, which go into its template with "Not" before
            them for the negative; none asks for all of the set.
        prompts: Whole sentences, scored by their similarity alone.

    Raises:
        ValueError: If one is empty, or there is no prompt set and nothing else to ask.
    """
    for text in (*findings, *prompts):
        if not text.strip():
            raise ValueError("a finding or prompt is empty; write what is to be looked for")
    asked = [Question(p.strip(), [p.strip()], [], "cosine", "prompt") for p in prompts]
    if evaluation is None:
        if findings or not prompts:
            raise ValueError(
                "the experiment has no evaluation by prompts to take a template from; ask whole "
                'sentences with --prompt "The volume shows: Pleural effusion."'
            )
        return asked
    if not findings and prompts:
        return asked
    known = {one.name.lower(): one for one in _of_set(evaluation, name)}
    if not findings:
        return [*known.values(), *asked]
    free = [_free(f.strip(), evaluation) for f in findings if f.strip().lower() not in known]
    chosen = [known[f.strip().lower()] for f in findings if f.strip().lower() in known]
    return [*chosen, *free, *asked]


def answer(
    questions: Sequence[Question],
    embedding: Float[Tensor, "*p e"],
    predictor: Predictor,
    *,
    token: int = 0,
) -> Answers:
    """Score the embedding of a study; see `Question.rule`."""
    model = predictor.model
    with torch.no_grad():
        positive, negative = (
            class_embeddings(texts, predictor.tokenizer, model.embed_text, embedding.device)
            for texts in (
                [question.positive for question in questions],
                [question.negative or question.positive for question in questions],
            )
        )
    has_negative = torch.tensor([bool(question.negative) for question in questions])
    negative = torch.where(has_negative[:, None], negative, torch.zeros_like(negative))
    chosen = embedding if embedding.ndim == 1 else embedding[token]
    cosine = torch.stack((negative @ chosen, positive @ chosen), dim=-1)
    scale = model.logit_scale.detach().exp()
    pair = pair_probabilities(cosine[None], scale)[0, :, 1]
    scores = torch.where(torch.tensor([q.rule == "pair" for q in questions]), pair, cosine[:, 1])
    choice = torch.tensor([q.rule == "choice" for q in questions])
    if choice.any():
        scores[choice] = (cosine[choice, 1] * scale).softmax(dim=0)
    return Answers(scores, positive, negative)


def _of_set(evaluation: PromptedEvaluation, name: str) -> list[Question]:
    prompts, template = evaluation.prompts, evaluation.template
    rule = _rule_of(evaluation)
    texts = {c: prompts.texts(c, template) for c in evaluation.class_names}
    return [
        Question(c, positive, negative if rule == "pair" else [], rule, f"{name}: {prompts.name}")
        for c, (negative, positive) in texts.items()
    ]


def _free(finding: str, evaluation: PromptedEvaluation) -> Question:
    prompts, template = evaluation.prompts, evaluation.template
    sentences = prompts.templates[template]
    if any("{organ}" in sentence for sentence in sentences):
        raise ValueError(
            f"{finding!r} is not in prompt set {prompts.name}, and its template {template!r} needs "
            "an organ; ask a whole sentence with --prompt, or one of: "
            + ", ".join(evaluation.class_names)
        )
    positive = [sentence.format(c=finding) for sentence in sentences]
    if _rule_of(evaluation) != "pair":
        return Question(finding, positive, [], "cosine", "free words")
    lower = finding if finding[1:2].isupper() else finding[0].lower() + finding[1:]
    negative = [sentence.format(c=f"Not {lower}") for sentence in sentences]
    return Question(finding, positive, negative, "pair", "free words")


def _rule_of(evaluation: PromptedEvaluation) -> Rule:
    if not isinstance(evaluation, ZeroShotClassification):
        return "choice"
    return "pair" if evaluation.score == "pair" else "cosine"
