"""A user's folder in small as a data set: it writes itself where it is missing."""

from pathlib import Path

from medvlp.data.folder import Folder
from medvlp.phantom.finding import LABELS
from medvlp.phantom.folder import TABLE, write_folder_twin
from medvlp.phantom.source import TwinSource


class PhantomFolder(TwinSource, Folder):
    """The folder twin, read by the code that reads a user's; arguments as in `TwinSource`."""

    name = "phantom_folder"
    write_twin = staticmethod(write_folder_twin)

    def open_reader(self, root: str) -> None:
        """Name the columns of the twin's table."""
        Folder.__init__(
            self,
            str(Path(root) / TABLE),
            root,
            name=self.name,
            text_columns={"findings": "Findings", "impression": "Impression"},
            label_columns=LABELS,
        )
