"""fVLM: preprocessing and where windows are cut."""

import torch

from medvlp.data.windows import window_placement

from .registry import Case, handles


@handles("fvlm", "window_placement")
def windows(case: Case) -> None:
    """Place each window; start inclusive, end exclusive."""
    names = ("volume_dhw", "window_dhw", "organ_min_max_dhw")
    rows = zip(*(case.inputs[name].tolist() for name in names), strict=True)
    ours = []
    for volume, window, (first, last) in rows:
        cuts = window_placement(volume, window, organ_min=first, organ_max=last)
        ours.append([[cut.start for cut in cuts], [cut.stop for cut in cuts]])
    assert len(ours) == case.config["n"]
    case.assert_close("start_end_dhw", torch.tensor(ours), case.outputs["start_end_dhw"])
    case.assert_all_compared()
