"""Which scans of a study a network is shown, while it trains and while it is evaluated."""

from collections.abc import Sequence

from medvlp.data.sampling import EachScan, RandomScan, ScanChoice
from medvlp.data.volume_dataset import Augmentation


class ScanPolicy:
    """How the scans of a study become samples.

    Args:
        train: While training; None is one random scan per study.
        evaluation: Else; None makes every scan a sample of its own.
        augment: Callables on the network input (1 d h w) and a generator; training only.
    """

    def __init__(
        self,
        train: ScanChoice | None = None,
        evaluation: ScanChoice | None = None,
        *,
        augment: Sequence[Augmentation] = (),
    ) -> None:
        self.train = train or RandomScan()
        self.evaluation = evaluation or EachScan()
        self.augment = tuple(augment)
