"""Plots of a result file: ROC curves, AUROC per finding, reliability, accuracy per set; PNG."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from medvlp.evaluation import catalogue_report
from medvlp.evaluation.published_unimed import mean_rows, set_rows
from medvlp.evaluation.results import Finding, Results

_TIER_COLOURS = ("#1f6f8b", "#d1793b", "#6a8d3a", "#8a5a9e")
_SET_COLOURS = (*_TIER_COLOURS, "#b04a5a", "#4a6fb0")
_GREY = "#888888"
DPI = 120


def write_plots(results: Results, folder: str | Path) -> list[Path]:
    """Write `roc.png`, `findings.png` and `reliability.png`, or `sets.png` for labelled sets.

    Nothing is written without a scored finding or set.
    """
    of_sets = results.kind == catalogue_report.KIND
    if not results.findings and not of_sets:
        return []
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if of_sets:
        canvases = {"sets": plot_sets(results)}
    else:
        canvases = {"roc": plot_roc(results), "findings": plot_findings(results)}
    if results.findings and results.score_rule != "cosine":  # of probabilities only
        canvases["reliability"] = plot_reliability(results)
    paths = []
    for name, canvas in canvases.items():
        paths.append(folder / f"{name}.png")
        canvas.savefig(paths[-1], dpi=DPI)
    return paths


def plot_roc(results: Results) -> Canvas:
    """Draw a small ROC panel per finding."""
    canvas, panels = _panels(results, f"ROC: {results.protocol}")
    for panel, finding in zip(panels, results.findings, strict=True):
        panel.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
        panel.plot(finding.roc.x, finding.roc.y, color=_colours(results)[finding.tier])
        figure = finding.figures["auroc"]
        label = f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"
        panel.text(0.97, 0.05, label, ha="right", fontsize=7)
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    canvas.supxlabel("false positive rate", fontsize=9)
    canvas.supylabel("true positive rate", fontsize=9)
    return canvas


def plot_reliability(results: Results) -> Canvas:
    """Draw mean score against observed frequency per finding; the size of a dot is its count."""
    canvas, panels = _panels(results, f"Reliability: {results.protocol}")
    for panel, finding in zip(panels, results.findings, strict=True):
        panel.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
        curve = finding.reliability
        sizes = [4 + 60 * count / finding.num_known for count in curve.count]
        panel.plot(curve.x, curve.y, color=_GREY, linewidth=0.6)
        panel.scatter(curve.x, curve.y, s=sizes, color=_colours(results)[finding.tier], zorder=2)
        panel.text(0.97, 0.05, f"ECE {finding.figures['ece'].value:.2f}", ha="right", fontsize=7)
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    canvas.supxlabel("mean score", fontsize=9)
    canvas.supylabel("share of positives", fontsize=9)
    return canvas


def plot_findings(results: Results) -> Canvas:
    """Draw AUROC with its interval for every finding, best first, and the macro rows below."""
    ranked = sorted(results.findings, key=lambda f: f.figures["auroc"].value, reverse=True)
    macros = [macro for macro in results.macros if macro.findings]
    colours = _colours(results)
    bars = [(f.name, f.figures["auroc"], colours[f.tier]) for f in ranked]
    bars += [(f"mean: {m.name.replace('_', ' ')}", m.figures["auroc"], "#aaaaaa") for m in macros]
    canvas = Canvas(figsize=(7, 1.2 + 0.26 * len(bars)), layout="constrained")
    axes = canvas.subplots()
    for row, (_, figure, colour) in enumerate(bars):
        axes.barh(row, figure.value, color=colour, height=0.7)
        if math.isfinite(figure.low):
            axes.plot([figure.low, figure.high], [row, row], color="black", linewidth=1)
    axes.axvline(0.5, color=_GREY, linestyle=":", label="chance")
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="AUROC, 95 % interval over patients", title=results.protocol)
    for tier, colour in colours.items():
        if tier:
            axes.barh(0, 0, color=colour, label=tier)
    canvas.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return canvas


def plot_sets(results: Results) -> Canvas:
    """Draw the accuracy of every set with its interval, by modality, beside that of chance."""
    rows = {macro.name: macro.figures for macro in set_rows(results)}
    groups = {one.name: one.findings for one in mean_rows(results)[1:] if one.findings}
    grouped = [(group, name) for group, names in groups.items() for name in names]
    grouped += [("", name) for name in rows if name not in {name for _, name in grouped}]
    canvas = Canvas(figsize=(7, 1.2 + 0.26 * len(grouped)), layout="constrained")
    axes = canvas.subplots()
    for place, (group, name) in enumerate(grouped):
        accuracy = rows[name]["acc"]
        colour = _SET_COLOURS[list(groups).index(group) % len(_SET_COLOURS)] if group else _GREY
        first = place == 0 or grouped[place - 1][0] != group
        label = (group or "not averaged") if first else None
        axes.barh(place, accuracy.value, color=colour, height=0.7, label=label)
        axes.plot([accuracy.low, accuracy.high], [place, place], color="black", linewidth=1)
        chance = rows[name]["chance"].value
        axes.plot([chance, chance], [place - 0.4, place + 0.4], color="black", linestyle=":")
    axes.set_yticks(range(len(grouped)), [name for _, name in grouped], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="accuracy, 95 % interval; dotted: chance", title=results.protocol)
    canvas.legend(loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    return canvas


def _panels(results: Results, title: str) -> tuple[Canvas, list[Axes]]:
    count = len(results.findings)
    columns = min(6, count)
    rows = math.ceil(count / columns)
    canvas = Canvas(figsize=(1.9 * columns + 0.5, 2.0 * rows + 0.7), layout="constrained")
    panels = list(canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_axis_off()
    for panel, finding in zip(panels, results.findings, strict=False):
        panel.set_title(_short(finding), fontsize=8)
        panel.tick_params(labelsize=7)
    canvas.suptitle(title, fontsize=10)
    return canvas, panels[:count]


def _short(finding: Finding) -> str:
    return finding.name if len(finding.name) <= 24 else f"{finding.name[:22]}…"


def _colours(results: Results) -> dict[str, str]:
    tiers = list(dict.fromkeys(finding.tier for finding in results.findings))
    return {tier: _TIER_COLOURS[k % len(_TIER_COLOURS)] for k, tier in enumerate(tiers)}
