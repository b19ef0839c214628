"""A twin as a data set: the reader of the real data set, and a writer for what it reads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from medvlp.data.records import StudySource
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.types import Size3D


class TwinSource(StudySource):
    """The front half of a class `PhantomX(TwinSource, X)` that reads what it has written.

    The second base reads the real data set.

    Attributes:
        write_twin: Writes the twin; set it with `staticmethod(...)`.
        parameters: What it is asked to write.

    Args:
        root: Folder of the twin; written by `materialise()` if it is not there.
        num_train: Studies of the training split.
        num_test: Held-out studies.
        seed: Of everything.
        shape: Typical voxels along z, y, x.
        num_workers: Processes that write; 0 writes in this one.
        hard_cases: Add the hard cases of the writer.
        kinds: What is found, in turn; None takes all. Writers that offer no choice refuse it.
    """

    write_twin: ClassVar[Callable[..., Path]]

    def __init__(
        self,
        root: str,
        *,
        num_train: int = 24,
        num_test: int = 8,
        seed: int = 0,
        shape: Sequence[int] = (48, 56, 56),
        num_workers: int = 0,
        hard_cases: bool = True,
        kinds: Sequence[str] | None = None,
    ) -> None:
        self.open_reader(root)
        if len(shape) != 3:
            raise ValueError(f"shape is {list(shape)}, expected three sizes along z, y, x")
        self.twin_root = Path(root)
        size: Size3D = (shape[0], shape[1], shape[2])
        chosen = None if kinds is None else tuple(kinds)
        self.parameters = TwinParameters(
            num_train, num_test, seed, size, hard_cases=hard_cases, kinds=chosen
        )
        self.num_workers = num_workers
        self.adapt()

    def open_reader(self, root: str) -> None:
        """Construct the second base, which takes the root and has a default for all else."""
        super().__init__(root)  # pyright: ignore[reportCallIssue]

    def adapt(self) -> None:
        """Set what the reader must know of the twin beyond its root; nothing by default."""

    def materialise(self) -> None:
        """Write the twin; one that is complete is left as it is.

        Raises:
            ValueError: If the folder holds something else, or a twin of other parameters.
        """
        self.write_twin(self.twin_root, self.parameters, num_workers=self.num_workers)

    def describe(self) -> dict[str, Any]:
        """State where the twin lies and all that decides its content."""
        return {**super().describe(), **self.parameters.as_json()}
