"""The phantom twin of Rad-ChestCT as a data set: it writes itself where it is missing."""

from medvlp.data.rad_chestct import RadChestCT
from medvlp.phantom.rad_chestct import spacing_mm, write_rad_chestct_twin
from medvlp.phantom.source import TwinSource


class PhantomRadChestCT(TwinSource, RadChestCT):
    """Rad-ChestCT's twin, read by the code that reads Rad-ChestCT; arguments as in `TwinSource`.

    Unlike there, the published splits are kept, so that one can train on it.
    """

    name = "phantom_rad_chestct"
    write_twin = staticmethod(write_rad_chestct_twin)

    def adapt(self) -> None:
        """State the twin's own voxels, and keep its splits."""
        edge = spacing_mm(self.parameters.shape)
        self.spacing_mm = {**self.spacing_mm, ".npz": (edge, edge, edge)}
        self.merge_into = None
