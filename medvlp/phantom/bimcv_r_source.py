"""The phantom twin of BIMCV-R as a data set: it writes itself where it is missing."""

from medvlp.data.bimcv_r import BIMCVR
from medvlp.phantom.bimcv_r import KINDS, write_bimcv_r_twin
from medvlp.phantom.ct_rate_plan import MIRRORED
from medvlp.phantom.source import TwinSource


class PhantomBIMCVR(TwinSource, BIMCVR):
    """BIMCV-R's twin, read by the code that reads BIMCV-R; arguments as in `TwinSource`."""

    name = "phantom_bimcv_r"
    write_twin = staticmethod(write_bimcv_r_twin)

    def adapt(self) -> None:
        """Cut the table where the twin's testing rows begin, as near as a share of it can."""
        wanted = self.parameters
        train = wanted.num_train + wanted.hard_cases * len(KINDS)
        self.train_share = train / (train + wanted.num_test + wanted.hard_cases * MIRRORED)
