"""Shapes and batches that every part of the house agrees on.

Axis letters used in all annotations:
    b batch (studies), n scans of the batch packed in a row, s scans of one study, c channels,
    d h w voxels, t texts, l text tokens, e embedding, k classes, u statements of one text,
    m statements of one report, o organs, p one flattened patch, f features of a 2D slice. Image
    tokens are also counted with n where no scan axis is near.
"""

from enum import IntEnum
from typing import Any, NamedTuple, NotRequired, TypedDict

from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

Size3D = tuple[int, int, int]
"""Depth, height, width: of a volume in voxels, of a patch in voxels, of a token grid in tokens."""

Spacing3D = tuple[float, float, float]
"""Distance between voxel centres in mm, in the order depth, height, width."""


class TextKind(IntEnum):
    """What a text unit of a study is."""

    REPORT = 0
    FINDINGS = 1
    IMPRESSION = 2
    SENTENCE = 3


class Tokens(NamedTuple):
    """Tokenised texts, padded on the right to the longest of them.

    Attributes:
        input_ids: Vocabulary ids.
        attention_mask: True where the token is real, False on padding.
    """

    input_ids: Int[Tensor, "t l"]
    attention_mask: Bool[Tensor, "t l"]


class Conversation(NamedTuple):
    """A question and its answer for each study, padded on the right, as a language model learns.

    Attributes:
        input_ids: Vocabulary ids of the question, with the places of image tokens, and the answer.
        attention_mask: True where the language model may look.
        labels: The ids that are learned; -100 where nothing is.
    """

    input_ids: Int[Tensor, "b l"]
    attention_mask: Bool[Tensor, "b l"]
    labels: Int[Tensor, "b l"]


class VolumeBatch(TypedDict):
    """A batch of 3D studies, packed rather than padded: they may differ in their number of scans.

    Attributes:
        image: All scans of the batch in a row, ready for the network.
        num_scans: How the scans divide into studies; sums to n. Stays on the CPU: it is the host
            that cuts sequences.
        study_id: One per study.
        sample_id: One per study, unique within an evaluation set (a study of which every
            reconstruction is scored on its own gives several samples).
        patient_id: One per study; statistics resample patients.
        recipe_hash: Hash of the preprocessing contract that made `image`.
        tokens: Text units of all studies in a row.
        text_study: The row (0..b-1) of the study each text belongs to.
        text_kind: A `TextKind` per text. Stays on the CPU: it is the host that sorts texts.
        num_truncated: How many of the texts were longer than the tokenizer's context.
        text_statements: 63-bit hashes of the sentences of each text; -1 fills.
        study_statements: 63-bit hashes of all sentences of each study's report; -1 fills.
        text_organ: Which organ each text is about, a number of the model's organs. Stays on the
            CPU, as do the two that follow: it is the host that picks organs.
        text_normal: Whether the text says that its organ is normal.
        text_caption: A number of 63 bits per text, equal where the whole captions are.
        negatives: Texts that are wrong, as many for each of the texts, text by text.
        labels: 1 present, 0 absent, -1 unknown, in the order of the data set's label names.
        metadata: One per study: sex, age, scanner and the like.
        target: One per study: the lesion or question it was sampled for, a row of the manifest.
        anatomy_mask: Organ ids on the grid of `image`.
        slices: 2D slices of each scan, ready for a 2D network.
        slice_features: What a frozen 2D network said of each of those slices.
        conversation: One per study, to learn to answer from.
        question: One per study, as it is put to a language model.
        answer: One per study, the true one.
        lesion_coarse: Large patch around the lesion, axes x, y, z.
        lesion_fine: Small patch around the lesion, axes x, y, z.
    """

    image: Float[Tensor, "n c d h w"]
    num_scans: Int[Tensor, " b"]
    study_id: list[str]
    sample_id: list[str]
    patient_id: list[str]
    recipe_hash: str
    tokens: NotRequired[Tokens]
    text_study: NotRequired[Int[Tensor, " t"]]
    text_kind: NotRequired[Int[Tensor, " t"]]
    num_truncated: NotRequired[int]
    text_statements: NotRequired[Int[Tensor, "t u"]]
    study_statements: NotRequired[Int[Tensor, "b m"]]
    text_organ: NotRequired[Int[Tensor, " t"]]
    text_normal: NotRequired[Bool[Tensor, " t"]]
    text_caption: NotRequired[Int[Tensor, " t"]]
    negatives: NotRequired[Tokens]
    labels: NotRequired[Int[Tensor, "b k"]]
    metadata: NotRequired[list[dict[str, str]]]
    target: NotRequired[list[dict[str, Any] | None]]
    anatomy_mask: NotRequired[Integer[Tensor, "n d h w"]]
    slices: NotRequired[Float[Tensor, "n m c h w"]]
    slice_features: NotRequired[Float[Tensor, "n m f"]]
    conversation: NotRequired[Conversation]
    question: NotRequired[list[str]]
    answer: NotRequired[list[str]]
    lesion_coarse: NotRequired[Float[Tensor, "n c d h w"]]
    lesion_fine: NotRequired[Float[Tensor, "n c d h w"]]


class ImageBatch(TypedDict):
    """A batch of 2D images. Each is a study of one scan, so that systems treat both batches alike.

    Attributes:
        image: Bytes until the batch is on the device, normalised from there on.
        num_scans: Ones. Stays on the CPU.
        study_id: As `sample_id`.
        sample_id: One per image.
        patient_id: One per image; statistics resample patients.
        recipe_hash: Hash of the preprocessing contract that made `image`.
        labels: 1 present, 0 absent, -1 unknown, in the order of the label names.
        metadata: One per image: modality and the like.
        replaced: Of which damaged images others took the place, and why.
        tokens: See `VolumeBatch`, and so for the fields that follow.
        text_study: The row of the image each text belongs to.
        text_kind: A `TextKind` per text.
        num_truncated: How many of the texts were longer than the tokenizer's context.
        text_statements: 63-bit hashes of the sentences of each text; -1 fills.
        study_statements: 63-bit hashes of all sentences of each image's texts; -1 fills.
    """

    image: Shaped[Tensor, "b c h w"]
    num_scans: Int[Tensor, " b"]
    study_id: list[str]
    sample_id: list[str]
    patient_id: list[str]
    recipe_hash: str
    labels: Int[Tensor, "b k"]
    metadata: list[dict[str, str]]
    replaced: NotRequired[list[tuple[str, str]]]
    tokens: NotRequired[Tokens]
    text_study: NotRequired[Int[Tensor, " t"]]
    text_kind: NotRequired[Int[Tensor, " t"]]
    num_truncated: NotRequired[int]
    text_statements: NotRequired[Int[Tensor, "t u"]]
    study_statements: NotRequired[Int[Tensor, "b m"]]


class TwoTowerOutput(TypedDict):
    """What a two-tower model hands to a contrastive loss.

    Attributes:
        image_embedding: After projection and L2 norm; with an axis of tokens where the vision
            tower pools to several.
        text_embedding: After projection and L2 norm.
        logit_scale: In log space; `.exp()` at use.
        logit_bias: Only for sigmoid losses.
        second_logit_scale: Only for two image tokens: that of the second, in log space.
        negative_embedding: Of texts that are wrong for a study, as many for each; as the texts.
    """

    image_embedding: Float[Tensor, "b *p e"]
    text_embedding: Float[Tensor, "t e"]
    logit_scale: Float[Tensor, "1"]
    logit_bias: NotRequired[Float[Tensor, "1"]]
    second_logit_scale: NotRequired[Float[Tensor, "1"]]
    negative_embedding: NotRequired[Float[Tensor, "b m e"]]


class AnatomyOutput(TypedDict):
    """What a model of organs hands to an anatomy-wise loss.

    Attributes:
        organ_embedding: After projection and L2 norm; zero where the organ is absent.
        present: Which organs count.
        text_embedding: After projection and L2 norm.
        temperature: Divides the scalar products.
    """

    organ_embedding: Float[Tensor, "b o e"]
    present: Bool[Tensor, "b o"]
    text_embedding: Float[Tensor, "t e"]
    temperature: Float[Tensor, "1"]
