"""A linear probe as a Markdown table and as a curve over the number of labels."""

import math
from pathlib import Path

from medvlp.evaluation.results import Figure, Macro, Results

_COLOURS = {"accuracy": "#d1793b", "auroc": "#1f6f8b"}
_DPI = 120


def markdown_table(results: Results) -> str:
    """Write one row for each budget of labels.

    The intervals cover test patients and draws of the training set; "sd" is the spread of the
    accuracy over draws alone; C is the median of the chosen inverse L2 strengths.
    """
    lines = [
        f"### {results.protocol}: {results.num_samples} test samples of {results.num_patients} "
        "patients",
        "",
        "| labels | training samples | accuracy | balanced accuracy | AUROC | AP | sd | C |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(row) for row in results.macros),
        "",
        f"- {results.threshold_rule}",
    ]
    lines += [f"- {count} samples {reason}" for reason, count in results.left_out.items()]
    lines += [f"- not probed or not scored: {n}: {why}" for n, why in results.skipped.items()]
    return "\n".join(lines) + "\n"


def plot_curve(results: Results, path: Path) -> Path:
    """Draw accuracy and AUROC over the number of training samples: shares, shots, the whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8, 3.4), layout="constrained")
    FigureCanvasAgg(canvas)
    for axes, (metric, colour) in zip(canvas.subplots(1, 2), _COLOURS.items(), strict=True):
        rows = sorted(results.macros, key=lambda row: row.figures["num_train"].value)
        for shots, line in ((True, "-"), (False, ":")):
            chosen = [row for row in rows if ("shot" in row.name) == shots]
            x = [row.figures["num_train"].value for row in chosen]
            ends = [[row.figures[metric].low, row.figures[metric].high] for row in chosen]
            y = [row.figures[metric].value for row in chosen]
            below = [[v - low, high - v] for v, (low, high) in zip(y, ends, strict=True)]
            if chosen:
                bars = [[max(0.0, v) for v in side] for side in zip(*below, strict=True)]
                label = "shots of each class" if shots else "share of all"
                axes.errorbar(x, y, bars, color=colour, linestyle=line, marker="o", label=label)
        axes.set_xscale("log")
        axes.set(xlabel="training samples", ylabel=metric)
        axes.legend(fontsize=7)
    canvas.suptitle(results.protocol, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=_DPI)
    return path


def _row(row: Macro) -> str:
    figures = row.figures
    names = ("accuracy", "balanced_accuracy", "auroc", "ap")
    spread = figures["draw_sd"].value
    cells = [
        f"{figures['num_train'].value:.0f}",
        *(_interval(figures[name]) for name in names),
        "" if math.isnan(spread) else f"{spread:.3f}",
        f"{figures['strength'].value:.0e}",
    ]
    return f"| {row.name} | {' | '.join(cells)} |"


def _interval(one: Figure) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
