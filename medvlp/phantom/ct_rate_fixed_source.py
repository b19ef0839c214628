"""The phantom twin of CT-RATE v2 as a data set: it writes itself where it is missing."""

from medvlp.data.ct_rate_fixed import CTRateFixed
from medvlp.phantom.ct_rate_fixed import write_ct_rate_fixed_twin
from medvlp.phantom.source import TwinSource


class PhantomCTRateFixed(TwinSource, CTRateFixed):
    """CT-RATE v2's twin, read by the code that reads CT-RATE v2; arguments as in `TwinSource`."""

    name = "phantom_ct_rate_fixed"
    write_twin = staticmethod(write_ct_rate_fixed_twin)

    def adapt(self) -> None:
        """Read the masks too, which the twin always has."""
        self.anatomy_masks = "{split}_mask"
