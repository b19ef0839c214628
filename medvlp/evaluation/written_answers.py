"""From questions in words to answers in words, by a language model that sees volumes."""

from collections.abc import Sequence

from medvlp.models.hsenet_vlm import HSENetVLM, TowerTokens
from medvlp.text.conversation_tokenizer import ConversationTokenizer
from medvlp.text.language_model import Ending
from medvlp.types import Tokens


def write_answers(
    model: HSENetVLM,
    tokenizer: ConversationTokenizer,
    questions: Sequence[str],
    towers: TowerTokens,
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int] = (),
) -> list[str]:
    """Answer a question about each volume, or several about a single one; greedily.

    Args:
        model: Sees and writes.
        tokenizer: Of the model.
        questions: As many as volumes, or any number about one.
        towers: What `HSENetVLM.look` said of the volumes.
        max_new_tokens: Longest answer.
        stop_ids: Ids that end an answer beside the tokenizer's own end.

    Raises:
        ValueError: If a question does not fit, see `HSENetVLM.write`.
    """
    device = towers.plain.device
    plain, guided = (tokens.expand(len(questions), -1, -1) for tokens in towers)
    prompts = Tokens(*(part.to(device) for part in tokenizer.prompts(questions)))
    ending = Ending(max_new_tokens, (tokenizer.end_id, *stop_ids), tokenizer.pad_id)
    return tokenizer.decode(model.write(TowerTokens(plain, guided), prompts, ending))
