"""The layout of HLIP's published result files, for comparing number by number."""

from typing import Any

from medvlp.evaluation.results import Results

_ARGMAX = ("acc (balanced)", "f1 (weighted)", "recall", "precision")


def hlip_layout(results: Results) -> dict[str, dict[str, Any]]:
    """Write the macro row `all` and every finding under the keys of the published JSON.

    The dictionary `mean` holds the means of the decisions by the more probable prompt, `* mean`
    those at the tuned threshold and, only there, the mean AUC. The published key
    "* acc (balanced)" is plain accuracy.
    """
    starred = [f"* {key}" for key in _ARGMAX]
    layout: dict[str, dict[str, Any]] = {}
    for finding in results.findings:
        keys = {key: finding.figures[key].value for key in (*_ARGMAX, *starred)}
        layout[finding.name] = keys | {"auc": finding.figures["auroc"].value}
    figures = next(macro for macro in results.macros if macro.name == "all").figures
    layout["mean"] = {f"mean {key}": figures[key].value for key in _ARGMAX}
    layout["* mean"] = {"mean auc": figures["auroc"].value}
    layout["* mean"] |= {f"* mean {key}": figures[f"* {key}"].value for key in _ARGMAX}
    return layout
