"""A loader that goes on in the middle of an epoch, and whose workers fail in one line."""

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from medvlp.data.batch_memory import use_recycled
from medvlp.data.recycled_memory import WorkerMemory, register
from medvlp.data.sampling import GlobalBatchSampler, SampleKey
from medvlp.user_errors import user_message


class ResumableLoader(DataLoader[Any]):
    """A DataLoader over whole batches with a place in the epoch that can be saved and restored.

    The place counts the global batches that were handed out, not those that workers fetched ahead:
    it means the same for any number of workers and ranks. Lightning saves it in every checkpoint.
    Made by `resumable_loader`.
    """

    # On the class, not in a constructor: Lightning builds loaders anew by DataLoader's arguments
    _place = (0, 0)
    _restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the batches handed out of it, and all that its batches follow from."""
        sampler = self._batches()
        epoch, batch = self._place
        batch = batch if epoch == sampler.epoch else 0
        return {"epoch": sampler.epoch, "batch": batch, **sampler.describe()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass over that epoch begin where the state was taken.

        A pass over another epoch begins at its start, under any data set and batch size.
        """
        self._restored = dict(state)
        self._place = state["epoch"], state["batch"]
        self._batches().set_epoch(state["epoch"])

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start workers when the first batch is asked for: by then the epoch is known."""
        sampler = self._batches()
        epoch, first = sampler.epoch, self._first_batch()
        sampler.first_batch = first
        batches = super().__iter__()
        sampler.first_batch = 0  # it has begun
        try:
            for number, batch in enumerate(batches, start=first + 1):
                if isinstance(batch, _Failure):
                    raise batch.error()
                self._place = epoch, number
                yield batch
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not self.num_workers or not _tells_of_a_lost_worker(error):
                raise
            if threading.current_thread() is threading.main_thread():
                # PyTorch's handler would interrupt the message when the next worker ends
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            raise OSError(
                f"a process that loads data was ended from outside ({error!r}); most often memory "
                "or shared memory (/dev/shm) ran out: lower data.num_workers or data.batch_size"
            ) from error

    def _batches(self) -> GlobalBatchSampler:
        return cast(GlobalBatchSampler, self.sampler)

    def _first_batch(self) -> int:
        """Return the place to begin at in the epoch that the sampler is set to.

        Raises:
            ValueError: If the place was saved under other batches.
        """
        state, self._restored = self._restored, None
        sampler = self._batches()
        if state is None or state["epoch"] != sampler.epoch or state["batch"] == 0:
            return 0
        current = sampler.describe()
        changed = [name for name, value in current.items() if state.get(name) != value]
        if changed:
            differences = "; ".join(
                f"{name} was {state.get(name)!r} and is {current[name]!r}" for name in changed
            )
            raise ValueError(
                f"the checkpoint was written in epoch {state['epoch']} after {state['batch']} "
                f"batches, and the epoch cannot go on with others: {differences}. Set them back, "
                "or resume from a checkpoint of the end of an epoch"
            )
        return state["batch"]


def resumable_loader(
    dataset: Dataset[Any],
    sampler: GlobalBatchSampler,
    *,
    collate: Callable[[Any], Any],
    num_workers: int = 0,
) -> ResumableLoader:
    """Build the loader of a split.

    Args:
        dataset: Answers the keys of a batch with its samples.
        sampler: Names them.
        collate: From these samples to the batch; runs in the workers.
        num_workers: Processes; 0 loads in this one. They live as long as the loader.
    """
    return ResumableLoader(
        _Batches(dataset, collate) if num_workers else dataset,
        batch_size=None,
        sampler=sampler,
        collate_fn=_as_it_is if num_workers else collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_init_worker,
        generator=torch.Generator().manual_seed(sampler.seed),  # torch's own stays untouched
    )


@dataclass(frozen=True)
class _Failure:
    """An error of the user's that a worker met, on its way to the main process."""

    kind: type[Exception]
    message: str
    trace: str

    def error(self) -> Exception:
        """Make the error anew; the worker's traceback shows where errors keep theirs."""
        error = self.kind(self.message)
        error.add_note(f"in a loader worker:\n{self.trace}")
        return error


class _Batches(Dataset[Any]):
    """Samples and collation in one call, whose errors for the user come back as a `_Failure`.

    PyTorch would put the worker's traceback into the message; other errors keep that.
    """

    def __init__(self, dataset: Dataset[Any], collate: Callable[[Any], Any]) -> None:
        self.dataset, self.collate = dataset, collate
        self._loader = register(self)
        self._memory: WorkerMemory | None = None  # of the process

    def start(self) -> None:
        """Prepare a worker for its batches."""
        self._memory = WorkerMemory(self._loader)
        use_recycled(self._memory)

    def __getitem__(self, keys: list[SampleKey]) -> Any:
        """Make one batch."""
        assert self._memory is not None
        try:
            return self._memory.parcel(self.collate(self.dataset[keys]))
        except Exception as error:
            self._memory.drop()
            message = user_message(error)
            if message is None:
                raise
            kinds = (FileNotFoundError, OSError, ImportError)
            kind = next((kind for kind in kinds if isinstance(error, kind)), ValueError)
            return _Failure(kind, message, traceback.format_exc())


def _tells_of_a_lost_worker(error: Exception) -> bool:
    """Recognise PyTorch's word for it, or a cut pipe; "Caught" begins what a worker raised."""
    message = str(error)
    cut_off = isinstance(error, (ConnectionError, EOFError)) and not message.startswith("Caught ")
    return cut_off or "DataLoader worker (pid" in message


def _as_it_is(batch: Any) -> Any:
    return batch


def _init_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer

    import blosc2

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    blosc2.set_nthreads(1)
    info = get_worker_info()
    assert info is not None
    assert isinstance(info.dataset, _Batches)
    info.dataset.start()
