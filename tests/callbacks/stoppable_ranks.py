"""What one of several ranks does with a run that one process began."""

import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from tests.callbacks.stoppable import Net, Save, run


def epochs(rank: int, world: int, resume: Path, save: Path) -> dict[str, Any]:
    """Go on to the end, saving on the way, and return this rank's part of every batch."""
    warnings.simplefilter("ignore")
    net = Net()
    keep = Save("on_train_batch_end", 12, save)
    run(net, keep, resume=resume, strategy=DDPStrategy(), devices=world, max_epochs=3)
    return {"samples": [list(step.samples) for step in net.steps]}
