"""HSENet's language model that sees: two image towers, two packers, words around their tokens."""

from typing import Literal, NamedTuple, Protocol, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvlp.text.language_model import Ending, LanguageModel
from medvlp.types import Conversation, Tokens
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT


class Packer(Protocol):
    """What the model asks of a packer, see `medvlp.heads.spatial_packer`."""

    num_tokens: int


class TowerTokens(NamedTuple):
    """What the towers say of each volume: their patch tokens after the last LayerNorm.

    Attributes:
        plain: Of the tower of the first stage.
        guided: Of the tower that slices guide.
    """

    plain: Float[Tensor, "b t e"]
    guided: Float[Tensor, "b u f"]


class ConversationOutput(NamedTuple):
    """What a training step needs.

    Attributes:
        loss: Cross-entropy of the next token, a mean over all tokens to learn.
        image_tokens: What took the places after the first token.
    """

    loss: Float[Tensor, ""]
    image_tokens: Float[Tensor, "b k e"]


class HSENetVLM(nn.Module):
    """Answer questions about volumes.

    The first token of a text is kept; those at the image's places behind it, whatever they are,
    give way to what the packers make of the tokens of both towers, the plain one's first.

    Args:
        vision: Tower of the first stage.
        guided_vision: Tower of the second stage.
        packer: From the plain tower's patch tokens to a few of the language model's width.
        language: Reads and writes.
        guided_packer: Of the guided tower; None shares the plain one's.
        freeze_vision: Train the packers and the language model alone, with the towers in
            evaluation.
        compat: "published" keeps the dropout of frozen towers active in training, as the published
            code does.

    Raises:
        ValueError: If `compat` is unknown.

    Reference: HSENet (arXiv 2506.09634); its code, github.com/YanzhaoShi/HSENet.
    """

    def __init__(
        self,
        vision: VolumeViT,
        guided_vision: SliceGuidedViT,
        *,
        packer: nn.Module,
        language: LanguageModel,
        guided_packer: nn.Module | None = None,
        freeze_vision: bool = True,
        compat: Literal["published"] | None = None,
    ) -> None:
        super().__init__()
        if compat not in (None, "published"):
            raise ValueError(f"compat {compat!r} is unknown; choose published, or leave it out")
        self.vision = vision
        self.guided_vision = guided_vision
        self.packer = packer
        self.guided_packer = guided_packer
        self.language = language
        self.freeze_vision, self.compat = freeze_vision, compat
        if freeze_vision:
            self.vision.requires_grad_(False)
            self.guided_vision.requires_grad_(False)
        self.train()  # a Trainer leaves the modes of modules as they come

    @property
    def num_image_tokens(self) -> int:
        """Places that a text must keep free behind its first token."""
        packers = (self.packer, self._second_packer)
        return sum(cast(Packer, packer).num_tokens for packer in packers)

    def forward(
        self,
        image: Float[Tensor, "n c d h w"],
        num_scans: Int[Tensor, " b"],
        slice_features: Float[Tensor, "_ m f"] | None,
        conversation: Conversation,
        towers: TowerTokens | None = None,
    ) -> ConversationOutput:
        """Compute the loss of the answers.

        Args:
            image: One volume a study.
            num_scans: Ones.
            slice_features: Of the slices of each volume.
            conversation: Padded on the right.
            towers: What `look` said of these volumes; looks anew without.

        Raises:
            ValueError: If a study has several scans, slice features are missing, a text has no
                room for the image, or there is nothing to learn.
        """
        towers = self.look(image, num_scans, slice_features) if towers is None else towers
        image_tokens = self.pack(towers)
        words = self.language.embed(conversation.input_ids)
        mixed = self.merge(words, image_tokens, conversation.attention_mask)
        loss = self.language.loss(mixed, conversation.attention_mask, conversation.labels)
        return ConversationOutput(loss, image_tokens)

    @torch.no_grad()
    def generate(
        self,
        image: Float[Tensor, "n c d h w"],
        num_scans: Int[Tensor, " b"],
        slice_features: Float[Tensor, "_ m f"] | None,
        prompts: Tokens,
        ending: Ending,
        *,
        towers: TowerTokens | None = None,
    ) -> Int[Tensor, "b g"]:
        """Answer questions greedily; the same words at any size of the batch.

        Args:
            image: One volume a question.
            num_scans: Ones.
            slice_features: Of the slices of each volume.
            prompts: First token, places of the image and question, padded on the left.
            ending: Of the answers.
            towers: See `forward`.

        Returns:
            The answers alone, as long as the longest.

        Raises:
            ValueError: If the question does not fit, see `forward` and `LanguageModel.generate`.
        """
        towers = self.look(image, num_scans, slice_features) if towers is None else towers
        return self.write(towers, prompts, ending)

    @torch.no_grad()
    def write(self, towers: TowerTokens, prompts: Tokens, ending: Ending) -> Int[Tensor, "b g"]:
        """Answer questions about what the towers have seen, see `generate`."""
        words = self.language.embed(prompts.input_ids)
        mixed = self.merge(words, self.pack(towers), prompts.attention_mask)
        return self.language.generate(mixed, prompts.attention_mask, ending)

    def look(
        self,
        image: Float[Tensor, "n c d h w"],
        num_scans: Int[Tensor, " b"],
        slice_features: Float[Tensor, "_ m f"] | None,
    ) -> TowerTokens:
        """Run both towers; without gradient where they are frozen.

        Raises:
            ValueError: If a study has several scans, or slice features are missing.
        """
        if len(num_scans) != len(image):
            raise ValueError(
                f"{len(image)} scans came for {len(num_scans)} studies; the language model reads "
                "one scan a study: sample one of each (data.scans), or give each a study"
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_vision):
            plain = self.vision.tokens(image)[:, 1:]
            guided = self.guided_vision.tokens(image, slice_features)[:, 1:]
        return TowerTokens(plain, guided)

    def pack(self, towers: TowerTokens) -> Float[Tensor, "b k e"]:
        """Turn the tokens of both towers into a few for the language model."""
        return torch.cat([self.packer(towers.plain), self._second_packer(towers.guided)], dim=1)

    def merge(
        self,
        words: Float[Tensor, "b l e"],
        image_tokens: Float[Tensor, "b k e"],
        attention_mask: Bool[Tensor, "b l"],
    ) -> Float[Tensor, "b l e"]:
        """Put image tokens behind the first token of each text, wherever its padding stands.

        Raises:
            ValueError: If the texts have no room for them.
        """
        count = image_tokens.shape[1]
        if words.shape[1] <= count:
            raise ValueError(
                f"texts of {words.shape[1]} tokens have no room for {count} image tokens and their "
                "first token; set tokenizer.num_image_tokens to the model's, and raise max_length"
            )
        first = attention_mask.int().argmax(1, keepdim=True)
        places = first + 1 + torch.arange(count, device=words.device)
        index = places[:, :, None].expand(-1, -1, words.shape[2])
        return words.scatter(1, index, image_tokens.to(words.dtype))

    def train(self, mode: bool = True) -> "HSENetVLM":
        """Switch to training; frozen towers stay in evaluation, unless as published."""
        super().train(mode)
        if self.freeze_vision and self.compat is None:
            self.vision.eval()
            self.guided_vision.eval()
        return self

    @property
    def _second_packer(self) -> nn.Module:
        return self.packer if self.guided_packer is None else self.guided_packer
