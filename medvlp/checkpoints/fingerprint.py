"""What identifies weights: a hash of their content, and what a model makes of a fixed input."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.checkpoints.adapter import StateDict
from medvlp.models.fvlm import FVLM
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.models.two_tower import TwoTower
from medvlp.text.clip_transformer import ClipTextTransformer
from medvlp.types import Size3D, Tokens
from medvlp.vision.anatomy_vit import AnatomyViT
from medvlp.vision.image_vit import ImageViT
from medvlp.vision.lesion_vit import LesionViT
from medvlp.vision.slice_encoder import SliceEncoder
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_cnn import VolumeCNN
from medvlp.vision.volume_vit import VolumeViT

_PARTS = 8
_NUM_SLICES = 32


def weights_hash(tensors: StateDict) -> str:
    """Hash names, types, shapes and bytes: the same in every layout of the same weights."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def not_finite(tensors: StateDict) -> list[str]:
    """Name the tensors that hold infinite or undefined numbers."""
    return [
        name
        for name, tensor in sorted(tensors.items())
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]


@dataclass(frozen=True)
class Fingerprint:
    """Embeddings of a fixed study and two fixed texts, in a few numbers.

    An embedding is cut into eight parts of its channels; each number is the sum of one part, so
    that every channel counts. Computed in single precision, numbers agree to 1e-3 between
    machines; the hash, of the numbers to two decimals, nearly always. Image towers alone have
    features in the place of embeddings, and no text.

    Attributes:
        image: Eight numbers for each image token, each organ, or each of several towers.
        text: Eight numbers for each text.
        cosine: Of each row of `image` with each text.
        hash: Of all of them.
    """

    image: list[list[float]]
    text: list[list[float]]
    cosine: list[list[float]]
    hash: str

    def to_dict(self) -> dict[str, list[list[float]] | str]:
        """Turn into plain values that say what they are."""
        what = "embeddings of a fixed study and two fixed texts"
        if not self.text:
            what = "features of a fixed study"
        told = f"{what}: sums of eight parts of the channels; equal to 1e-3 on any machine"
        return {"of": told} | asdict(self)


@torch.no_grad()
def fingerprint(model: nn.Module) -> Fingerprint:
    """Embed the fixed input in evaluation mode.

    Args:
        model: Two towers, or image towers alone. The study is of the size that the image tower
            was trained on.

    Raises:
        ValueError: If there is no fixed input for such a model.
    """
    was_training = model.training
    model.eval()
    images = _image_rows(model)
    texts = images[:0]
    if isinstance(model, TwoTower | FVLM):
        texts = model.embed_text(fixed_texts(model))
    model.train(was_training)
    rows = {"image": _sums(images), "text": _sums(texts), "cosine": (images @ texts.T).double()}
    coarse = json.dumps({name: _rounded(table, 2) for name, table in rows.items()})
    digest = hashlib.sha256(coarse.encode()).hexdigest()[:12]
    return Fingerprint(**{name: _rounded(table, 4) for name, table in rows.items()}, hash=digest)


def _image_rows(model: nn.Module) -> Tensor:
    if isinstance(model, nn.ModuleDict):
        return torch.cat([_image_rows(tower) for tower in model.values()])
    if isinstance(model, SliceEncoder):
        return model(_waves(model.image_size, 3))
    if isinstance(model, VolumeViT):
        return model(*_fixed_volume(model))
    if isinstance(model, HSENetVLM):  # what the language model reads, a row for each packer
        packed = model.pack(model.look(*_fixed_volume(model.guided_vision)))[0]
        return torch.stack([tokens.mean(0) for tokens in packed.tensor_split(2)])
    if isinstance(model, FVLM):
        image, num_scans = fixed_study(model)
        mask = _fixed_mask(image, len(model.organs))
        return model.embed_image(image, num_scans, mask)[0][0]
    if not isinstance(model, TwoTower):
        raise ValueError(
            f"no fingerprint is known of a {type(model).__name__}; inspect tells the hash of its "
            "weights"
        )
    hsenet = isinstance(model, HSENetCLIP)
    images = model.embed_image(*(_fixed_volume(model.vision) if hsenet else fixed_study(model)))[0]
    return images[None] if images.dim() == 1 else images


def fixed_study(model: TwoTower | FVLM) -> tuple[Tensor, Tensor]:
    """Make a smooth study of the size that the model was trained on.

    One scan; two where the tower has positions of scans. One image for a tower of images.
    """
    vision = model.vision
    if isinstance(vision, ImageViT):
        return _waves(vision.image_size, vision.patch_embed.proj.in_channels), torch.tensor([1])
    if isinstance(vision, VolumeCNN | LesionViT):
        return _fixed_lesion(vision)
    table, embed = vision.get_parameter("pos_embed"), vision.get_submodule("patch_embed")
    grid = vision.grid if isinstance(vision, AnatomyViT) else table.shape[1:4]
    size = _input_size((grid[0], grid[1], grid[2]), embed)
    num_scans = 2 if "scan_pos_embed" in dict(vision.named_parameters()) else 1
    return _scans(size, num_scans), torch.tensor([num_scans])


def fixed_texts(model: TwoTower | FVLM) -> Tokens:
    """Make two texts of ids spread over the vocabulary, one half as long as the other."""
    if isinstance(model.text, ClipTextTransformer):
        positions, vocabulary = model.text.context_length, model.text.vocab_size
    else:
        settings: Any = model.text.get_submodule("encoder").config
        positions, vocabulary = int(settings.max_position_embeddings), int(settings.vocab_size)
    length = min(16, positions)
    ids = 1 + (torch.arange(2 * length).reshape(2, length) * 977) % (vocabulary - 1)
    mask = torch.arange(length) < torch.tensor([[length], [length // 2]])
    return Tokens(ids * mask, mask)


def _fixed_lesion(vision: VolumeCNN | LesionViT) -> tuple[Tensor, Tensor]:
    """Make a patch of a tower's size, 64 voxels a side where it takes any."""
    channels = (
        vision.in_channels if isinstance(vision, VolumeCNN) else vision.patch_embed.in_channels
    )
    patch = _scans(vision.image_size or (64, 64, 64), channels)
    return patch.transpose(0, 1), torch.tensor([1])


def _fixed_mask(image: Tensor, num_organs: int) -> Tensor:
    """Give each organ an equal share of the voxels, in the order of the axes."""
    voxels = torch.arange(image[0].numel())
    return (1 + voxels * num_organs // len(voxels)).reshape(image[:, 0].shape)


def _fixed_volume(vision: VolumeViT) -> tuple[Tensor, ...]:
    """Make a scan of a tower's size, with features of slices where it takes them."""
    scan = _scans(vision.image_size, 1), torch.tensor([1])
    if not isinstance(vision, SliceGuidedViT):
        return scan
    k, channel = (torch.arange(n, dtype=torch.float64) for n in (_NUM_SLICES, vision.slice_dim))
    features = torch.sin(0.29 * k[:, None] + 0.13 * channel)
    return *scan, features[None].float()


def _scans(size: Size3D, count: int) -> Tensor:
    d, h, w = (torch.arange(length, dtype=torch.float64) for length in size)
    scan = torch.arange(count, dtype=torch.float64)[:, None, None, None]
    volume = torch.sin(0.37 * d[:, None, None] + scan) * torch.cos(0.11 * h[:, None])
    volume = volume + 0.5 * torch.sin(0.07 * w + scan)
    return volume[:, None].float()


def _waves(size: int, channels: int) -> Tensor:
    h = w = torch.arange(size, dtype=torch.float64)
    colour = torch.arange(channels, dtype=torch.float64)[:, None, None]
    image = torch.sin(0.11 * h[:, None] + colour) * torch.cos(0.07 * w)
    return image[None].float()


def _input_size(grid: Size3D, embed: torch.nn.Module) -> Size3D:
    """Count voxels; a convolutional stem halves the grid at each of its stages."""
    stem: Any = getattr(embed, "stem", embed)
    factor = 2 ** len(getattr(embed, "stages", ()))
    d, h, w = (length * patch * factor for length, patch in zip(grid, stem.patch_size, strict=True))
    return d, h, w


def _sums(embeddings: Tensor) -> Tensor:
    parts = embeddings.double().tensor_split(_PARTS, dim=-1)
    return torch.stack([part.sum(-1) for part in parts], dim=-1)


def _rounded(table: Tensor, decimals: int) -> list[list[float]]:
    return [[round(number, decimals) + 0.0 for number in row] for row in table.tolist()]
