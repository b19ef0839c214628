import json
from importlib import resources

import pytest

from medvlp.phantom.language_tokenizer import build_language_tokenizer
from medvlp.phantom.reports import all_sentences
from medvlp.text.conversation_tokenizer import ConversationTokenizer


def test_the_shipped_file_is_what_the_function_builds() -> None:
    path = resources.files("medvlp.text").joinpath("vocab/phantom_language.json")
    shipped = json.loads(path.read_text(encoding="utf-8"))
    built = json.loads(build_language_tokenizer().to_str())
    for part in ("normalizer", "pre_tokenizer", "decoder", "added_tokens"):
        assert shipped[part] == built[part]
    assert shipped["model"]["vocab"] == built["model"]["vocab"]


@pytest.mark.parametrize(
    "text",
    [
        "Can emphysema, consolidation be identified in the trachea and bronchie? Yes.",
        "Lung/Left lung lower lobe A nodule of 143 mm.\nZygapophyseal 3.5x2 cm (L4/L5)!",
    ],
)
def test_texts_come_back_as_they_were(text: str) -> None:
    tokenizer = build_language_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_words_of_the_reports_are_single_tokens() -> None:
    tokenizer = build_language_tokenizer()
    sentences = sorted({f"There. {sentence}" for _, _, sentence in all_sentences()})
    pieces = {piece for some in tokenizer.encode_batch(sentences) for piece in some.tokens}
    assert not [piece for piece in pieces if piece.startswith("##") or piece == "[UNK]"]


def test_a_shipped_tokenizer_is_found_by_its_name() -> None:
    tokenizer = ConversationTokenizer(
        "phantom_language", 64, num_image_tokens=2, end_token="<|endoftext|>"
    )
    made = tokenizer.conversation(["What is seen?"], ["No nodule."])
    assert made.input_ids[0, 0] == tokenizer.end_id == tokenizer.pad_id
    assert tokenizer.decode(made.input_ids) == ["What is seen? No nodule."]
    learned = made.labels[0][made.labels[0] >= 0]
    assert tokenizer.decode(learned[None]) == [" No nodule."]
