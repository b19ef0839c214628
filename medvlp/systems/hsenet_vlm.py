"""Training of a language model that answers questions about volumes, and its evaluation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn

from medvlp.checkpoints.fingerprint import weights_hash
from medvlp.distributed.sharding import whole
from medvlp.evaluation.protocol import Evaluation
from medvlp.evaluation.written_answers import write_answers
from medvlp.models.hsenet_vlm import HSENetVLM, TowerTokens
from medvlp.optim.groups import NO_DECAY, OptimizerCallable
from medvlp.systems.base import BaseSystem
from medvlp.systems.tower_memory import TowerMemory
from medvlp.text.conversation_tokenizer import ConversationTokenizer
from medvlp.types import VolumeBatch


class HSENetVLMSystem(BaseSystem):
    """Learn answers word by word; evaluate what the model writes.

    Args:
        model: Sees and writes.
        tokenizer: Of prompts and of what is written; the one of the data.
        optimizer: Makes the optimizer from parameter groups.
        schedule: From the coming optimizer step and their total to a factor of the base rate.
        evaluations: Of generated texts, by the name under which their figures are logged.
        max_new_tokens: Longest answer in evaluations.
        stop_ids: Ids that end an answer beside the tokenizer's own end.
        no_decay: Parts of the names of parameters without weight decay.
        init: Fills the model before a fresh run, see `medvlp.checkpoints.vlm_init`.
        memory: Remembers what the towers said of volumes; they must be frozen.

    Raises:
        ValueError: If tokenizer and model disagree on image tokens or vocabulary, or towers that
            change are to be remembered.

    Reference: HSENet (arXiv 2506.09634); its code, github.com/YanzhaoShi/HSENet.
    """

    model: HSENetVLM

    def __init__(
        self,
        model: HSENetVLM,
        tokenizer: ConversationTokenizer,
        *,
        optimizer: OptimizerCallable,
        schedule: Callable[[int, int], float],
        evaluations: dict[str, Evaluation] | None = None,
        max_new_tokens: int = 512,
        stop_ids: Sequence[int] = (),
        no_decay: Sequence[str] = NO_DECAY,
        init: Callable[[nn.Module], Any] | None = None,
        memory: TowerMemory | None = None,
    ) -> None:
        super().__init__(
            model,
            optimizer=optimizer,
            schedule=schedule,
            evaluations=evaluations,
            no_decay=no_decay,
            init=init,
        )
        if tokenizer.num_image_tokens != model.num_image_tokens:
            raise ValueError(
                f"the tokenizer keeps {tokenizer.num_image_tokens} places for the image, the "
                f"packers make {model.num_image_tokens} tokens; set tokenizer.num_image_tokens="
                f"{model.num_image_tokens}"
            )
        if memory is not None and (not model.freeze_vision or model.compat is not None):
            raise ValueError(
                "a memory of towers that learn, or whose dropout is active, would be wrong; set "
                "system.memory=null, or model.freeze_vision=true and model.compat=null"
            )
        self.tokenizer = tokenizer
        self.memory = memory
        self.max_new_tokens = max_new_tokens
        self.stop_ids = tuple(stop_ids)

    def configure_model(self) -> None:
        """Check the vocabulary, then fill and shard the model, see `BaseSystem`.

        Raises:
            ValueError: If the tokenizer has more tokens than the language model.
        """
        if self._trainer is not None and self.tokenizer.vocab_size > self.model.language.vocab_size:
            raise ValueError(
                f"the tokenizer has {self.tokenizer.vocab_size} tokens, its added ones (such as "
                f"{self.tokenizer.image_token}) included, and the language model "
                f"{self.model.language.vocab_size}; set model.language.vocab_size="
                f"{self.tokenizer.vocab_size}"
            )
        super().configure_model()

    def training_step(self, batch: VolumeBatch, batch_idx: int) -> Tensor:
        """Return the loss of the answers; `train/loss` is its mean over ranks.

        Raises:
            ValueError: If the batch has no conversations, or the loss is not finite.
        """
        if "conversation" not in batch:
            raise ValueError(
                "the batch has no conversations to learn from; choose data.texts of questions and "
                "a ConversationTokenizer"
            )
        output = self.model(
            batch["image"],
            batch["num_scans"],
            batch.get("slice_features"),
            batch["conversation"],
            self._look(batch),
        )
        self.guard.check(output.loss, output.image_tokens, batch["study_id"])
        size = len(batch["study_id"])
        self.log("train/loss", output.loss, prog_bar=True, batch_size=size, sync_dist=True)
        return output.loss

    def predict_step(self, batch: VolumeBatch, batch_idx: int) -> dict[str, Any]:
        """Answer the questions of a batch.

        Returns:
            sample_id, study_id, num_scans, question, generated: one of each per study; truth:
            the true answers, where the data have them.
        """
        truth = {"truth": list(batch["answer"])} if "answer" in batch else {}
        return truth | {
            "sample_id": list(batch["sample_id"]),
            "study_id": list(batch["study_id"]),
            "num_scans": batch["num_scans"].tolist(),
            "question": self._questions(batch),
            "generated": self.answers(batch),
        }

    def answers(self, batch: VolumeBatch) -> list[str]:
        """Answer the question of each study, greedily.

        Raises:
            ValueError: If there are no questions, or the model is sharded.
        """
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            raise ValueError(
                "a sharded model cannot write: ranks end their answers at different words; "
                "evaluate with strategy=auto or strategy=ddp"
            )
        questions = self._questions(batch)
        with torch.no_grad():
            towers = self._look(batch)
        return write_answers(
            self.model,
            self.tokenizer,
            questions,
            towers,
            max_new_tokens=self.max_new_tokens,
            stop_ids=self.stop_ids,
        )

    def _look(self, batch: VolumeBatch) -> TowerTokens:
        scans = (batch["image"], batch["num_scans"], batch.get("slice_features"))
        if self.memory is None:
            return self.model.look(*scans)
        return self.memory.look(self.model.look, *scans, weights=self._hash_of_towers)

    def _hash_of_towers(self) -> str:
        towers = {"vision": self.model.vision, "guided_vision": self.model.guided_vision}
        tensors = nn.ModuleDict(towers).state_dict()
        return weights_hash({name: whole(tensor).cpu() for name, tensor in tensors.items()})

    def _questions(self, batch: VolumeBatch) -> list[str]:
        if "question" not in batch:
            raise ValueError(
                "the batch has no questions to answer; choose texts with questions, as in "
                "data/texts=hsenet_conversation"
            )
        return batch["question"]

    def _start_evaluations(self) -> None:
        for evaluation in self.evaluations.values():
            evaluation.reset()

    def _update_evaluations(self, batch: VolumeBatch) -> None:
        if not self.evaluations:
            return
        generated = self.answers(batch)
        for evaluation in self.evaluations.values():
            evaluation.update(generated, batch)
