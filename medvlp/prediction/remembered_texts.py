"""Embeddings of a vocabulary's texts on disk: encoded once for each model and vocabulary."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from medvlp.checkpoints.fingerprint import weights_hash
from medvlp.data.cache import write_atomically
from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.models.hcl_al import HCLAL

_LOG = logging.getLogger(__name__)
_NAME = "embeddings"
_TOLERANCE = 1e-4  # of elements of unit vectors, between machines and lengths of padding


def texts_key(model: HCLAL, vocabulary: PlaceVocabulary, words: Sequence[str]) -> str:
    """Name what embeddings depend on: weights of the text side, vocabulary, and chosen words."""
    parts = {"text": model.text, "text_projection": model.text_projection}
    weights = {
        f"{name}.{key}": tensor.cpu()
        for name, part in parts.items()
        for key, tensor in part.state_dict().items()
    }
    chosen = hashlib.sha256("\n".join(words).encode()).hexdigest()[:8]
    return f"{weights_hash(weights)}-{vocabulary.digest[:16]}-{chosen}"


def remembered_embeddings(
    folder: Path, key: str, words: Sequence[str], embed: Callable[[Sequence[str]], Tensor]
) -> Float[Tensor, "k e"]:
    """Read the embeddings of words, or make and keep them.

    What weights do not tell (a tokenizer, the heads of attention) is checked by embedding the first
    word anew. A file that is damaged or does not agree is written again.

    Args:
        folder: Made if it is not there.
        key: See `texts_key`.
        words: In the order of the rows.
        embed: From words to embeddings.
    """
    path = folder / f"{key}.safetensors"
    found = _read(path, len(words))
    if found is not None:
        if torch.allclose(found[:1], embed(words[:1]).float().cpu(), atol=_TOLERANCE):
            return found
        _LOG.warning("%s is of another tokenizer or layout of the model: written again", path)
    made = embed(words).float().cpu().contiguous()
    write_atomically(path, save({_NAME: made}))
    return made


def _read(path: Path, count: int) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        found = load_file(path).get(_NAME)
    except (SafetensorError, OSError) as error:
        _LOG.warning("%s cannot be read (%s): written again", path, error)
        return None
    return found if found is not None and found.dim() == 2 and len(found) == count else None
