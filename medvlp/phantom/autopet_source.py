"""The phantom twin of AutoPET as a data set: it writes itself where it is missing."""

from medvlp.data.autopet import AutoPET
from medvlp.phantom.autopet import write_autopet_twin
from medvlp.phantom.source import TwinSource


class PhantomAutoPET(TwinSource, AutoPET):
    """AutoPET's twin, read by the very code that reads AutoPET; see `TwinSource`."""

    name = "phantom_autopet"
    write_twin = staticmethod(write_autopet_twin)
