"""The phantom twin of RadGenome-ChestCT as a data set: it writes itself where it is missing."""

from medvlp.data.radgenome import RadGenome
from medvlp.phantom.radgenome import spacing_mm, write_radgenome_twin
from medvlp.phantom.source import TwinSource


class PhantomRadGenome(TwinSource, RadGenome):
    """RadGenome-ChestCT's twin, read by the code that reads it; arguments as in `TwinSource`."""

    name = "phantom_radgenome"
    write_twin = staticmethod(write_radgenome_twin)

    def adapt(self) -> None:
        """State the twin's own voxels."""
        self.spacing_mm = spacing_mm(self.parameters.shape)
