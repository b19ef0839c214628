"""Score places: `python -m medvlp.evaluation.published_hcl_al PRED.csv TRUTH.csv [--out DIR]`.

PRED is a table as HCL-AL's inference writes it (image_path, x, y, z, width, height, depth, pred,
and coarse_labels, fine_to_coarse_labels, fine_labels, fine_probs where they are known), TRUTH the
table of annotations (the same boxes, and GT). A predicted lesion is the true one of the same case
whose box overlaps it most, above an IoU of 0.5. The published accuracy and the other figures are
over matched lesions; those that are not matched are counted. With --vocabulary there are figures of
levels and regions. Patients are resampled by "patient_id" where PRED has it, else cases are.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_table import LesionTable, names_of, ranked_coarse
from medvlp.evaluation.localisation import NamedPlaces
from medvlp.evaluation.place_matching import Matches, match_lesions
from medvlp.evaluation.results import Results
from medvlp.user_errors import one_line_errors

PREDICTED, TRUTH = "pred", "GT"


class PublishedScore(NamedTuple):
    """What the published evaluation prints.

    Attributes:
        total_lesions: Predicted.
        evaluated_lesions: Of them matched.
        accuracy_top1: Share of the matched whose prediction is one of the true names; NaN if none
            is matched.
    """

    total_lesions: int
    evaluated_lesions: int
    accuracy_top1: float


def published_score(
    predicted: LesionTable, truth: LesionTable, matches: Matches | None = None
) -> PublishedScore:
    """Score as published: names are compared letter by letter, blanks and all.

    A case that the truth lacks is not matched; the published script fails there.
    """
    matches = matches or match_lesions(predicted, truth)
    right = [
        row[PREDICTED] in truth.cells[at][TRUTH].split(",")
        for row, at in zip(predicted.cells, matches.truth, strict=True)
        if at >= 0
    ]
    accuracy = sum(right) / len(right) if right else float("nan")
    return PublishedScore(len(predicted.cells), len(right), accuracy)


def score_tables(
    predicted: LesionTable,
    truth: LesionTable,
    vocabulary: PlaceVocabulary | None = None,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    matches: Matches | None = None,
) -> Results:
    """Compute all figures of a table of predictions; see `NamedPlaces`.

    Raises:
        ValueError: If no prediction has a match, or the tables cannot be read.
    """
    matches = matches or match_lesions(predicted, truth)
    rows: list[dict[str, Any]] = []
    for number, (cells, at) in enumerate(zip(predicted.cells, matches.truth, strict=True)):
        case = predicted.cases[number]
        row: dict[str, Any] = {
            "sample_id": f"{number:06}",
            "patient_id": cells.get("patient_id") or case,
        }
        row |= {"recipe_hash": "", "scores": [], "size_mm": float(max(predicted.boxes[number, 3:]))}
        row["truth"] = names_of(truth.cells[at][TRUTH]) if at >= 0 else []
        rows.append(row | _guessed(predicted.path, cells, vocabulary))
    notes = [f"{matches.unseen} of {len(truth.cells)} true lesions have no prediction"]
    if matches.lost_cases:
        count, cases = sum(matches.lost_cases.values()), list(matches.lost_cases)
        more = ", ..." if len(cases) > 5 else ""
        notes.append(
            f"{count} lesions are of cases that {truth.path.name} does not have: "
            f"{', '.join(cases[:5])}{more}"
        )
    results = NamedPlaces(vocabulary, num_resamples=num_resamples, seed=seed).compute(rows)
    return replace(results, notes=[*notes, *results.notes])


def _guessed(
    path: Path, cells: Mapping[str, str], vocabulary: PlaceVocabulary | None
) -> dict[str, Any]:
    """Read ranked names and coarse places of a row."""
    columns = ("fine_to_coarse_labels", "fine_labels", "fine_probs")
    coarse_of, fine, probabilities = (_items(cells.get(name, "")) for name in columns)
    if not len(coarse_of) == len(fine) == len(probabilities):
        raise ValueError(
            f"{path}: a row has {len(coarse_of)} {columns[0]}, {len(fine)} {columns[1]} and "
            f"{len(probabilities)} {columns[2]}; the three lists belong together"
        )
    first = cells.get(PREDICTED, "")
    named: dict[str, float] = {}
    if vocabulary is not None:
        for coarse, word, probability in zip(coarse_of, fine, probabilities, strict=True):
            place = next((one for one in vocabulary.within(coarse) if one.fine == word), None)
            if place is None:
                raise ValueError(f"{path}: {word!r} is not a fine word of {coarse!r}")
            named[place.name] = float(probability)
    names = [first, *(name for name in named if name != first)] if first else list(named)
    known = named.get(first, float("nan")) if first else float("nan")
    guess: dict[str, Any] = {"names": names, "probability": known}
    if not cells.get("coarse_probs"):
        return guess | {"coarse": _items(cells.get("coarse_labels", ""))}
    ranked = ranked_coarse(cells)
    return guess | {"coarse": list(ranked), "coarse_probabilities": list(ranked.values())}


def _items(cell: str) -> list[str]:
    return cell.split(",") if cell else []


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    parser = argparse.ArgumentParser("python -m medvlp.evaluation.published_hcl_al")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("predicted", type=Path, help="CSV of the inference")
    add("truth", type=Path, help='CSV of the annotations, with the column "GT"')
    add("--vocabulary", help="file of places, or the name of a shipped one")
    add("--out", type=Path, metavar="DIR", help="writes results.json")
    add("--resamples", type=int, default=1000, help="of the bootstrap; default: %(default)s")
    add("--seed", type=int, default=0, help="of the bootstrap; default: %(default)s")
    options = parser.parse_args(arguments)
    with one_line_errors():
        from rich.console import Console

        from medvlp.evaluation.report import print_table

        vocabulary = None
        if options.vocabulary is not None:
            vocabulary = PlaceVocabulary.load(options.vocabulary)
        predicted = LesionTable.read(options.predicted)
        truth = LesionTable.read(options.truth, (TRUTH,))
        matches = match_lesions(predicted, truth)
        if PREDICTED in predicted.cells[0]:
            for name, value in published_score(predicted, truth, matches)._asdict().items():
                Console(highlight=False).print(f"{name}: {value}")
        how = {"num_resamples": options.resamples, "seed": options.seed}
        results = score_tables(predicted, truth, vocabulary, matches=matches, **how)
        print_table(results)
        if options.out is not None:
            Console().print(f"results: {results.to_json(options.out / 'results.json')}")


if __name__ == "__main__":
    main()
