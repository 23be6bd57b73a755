"""`ppo_keras.pretrained.tokenizer`: the ids are those of transformers, see `golden/make_tokenizers.py`."""

import json
import shutil
import sys

import numpy as np
import pytest

from golden_tokenizers import BYTES, FOLDER, GOLDEN, KINDS, TOKENIZERS, content_of, settings_of, smollm2
from ppo_keras import Prompts, Tokenizer
from ppo_keras.errors import InputError
from ppo_keras.language.generation import Responses
from ppo_keras.pretrained.tokenizer import PretrainedTokenizer

COMMANDS = [0, 1, 2]  # ids of the special tokens of both


def gguf_metadata(**changes):
    """The byte-level tokenizer as the metadata of a GGUF file has it."""
    content = json.loads(content_of())
    added = {token["id"]: token for token in content["added_tokens"]}
    pieces = {i: piece for piece, i in content["model"]["vocab"].items()} | {i: token["content"] for i, token in added.items()}
    kinds = [1 if i not in added else 3 if added[i]["special"] else 4 for i in range(len(pieces))]
    own = {"model": "gpt2", "pre": "smollm", "tokens": [pieces[i] for i in range(len(pieces))], "token_type": kinds}
    own |= {"merges": [" ".join(merge) for merge in content["model"]["merges"]], "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    return {f"tokenizer.ggml.{name}": value for name, value in (own | changes).items() if value is not None} | {"general.architecture": "llama"}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_transformers(kind):
    """Catches: another pattern for words, digits in groups, a normalizer left out, a begin token that nobody asked for, spaces that are trimmed."""
    hard = {"</s>", "a </s> b"} if kind == "sentence_piece" else set()  # there transformers itself writes the command
    for text, ids in zip(GOLDEN["texts"], GOLDEN[kind]["ids"]):
        if text not in hard:
            assert TOKENIZERS[kind].encode(text) == ids, text


@pytest.mark.parametrize("kind", KINDS)
def test_texts_survive(kind):
    """Catches: spaces cleaned up before full stops, control characters lost, special letters in a text that are left out as if they were commands."""
    for text, decoded in zip(GOLDEN["texts"], GOLDEN[kind]["decoded"]):
        ours = TOKENIZERS[kind].decode(TOKENIZERS[kind].encode(text))
        assert ours == (text.replace("▁", " ") if kind == "sentence_piece" else text), text  # there ▁ is a space
        assert ours == decoded or "</s>" in text


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_texts_are_text(kind):
    """Catches: <|im_end|> typed by a user that ends the turn; merges of Llama's that lead to </s> although it is no added token there."""
    tokenizer = TOKENIZERS[kind]
    for name in tokenizer.special_tokens:
        for text in (name, f"a {name} b", f"a{name}b", name * 3, f" {name}\n"):
            ids = tokenizer.encode(text)
            assert not set(ids) & set(COMMANDS) and max(ids) < 640 and tokenizer.decode(ids) == text
    assert tokenizer.special_tokens == {name: tokenizer.processor.token_to_id(name) for name in tokenizer.special_tokens} and len(tokenizer.special_tokens) == 3


def test_other_added_tokens_stay_pieces():
    """Catches: Qwen 3's <think>, which the checkpoint does not mark as special, taken for a command or spelled in letters."""
    (think,) = BYTES.encode("<think>")
    assert BYTES.encode("a<think>b") == [*BYTES.encode("a"), think, *BYTES.encode("b")]
    assert BYTES.decode([think]) == "<think>" and "<think>" not in BYTES.special_tokens


def test_begin_and_end():
    """Catches: a begin token that the checkpoint does not use, one too few or two, an empty text of no token at all, an end by default."""
    plain, llama = BYTES.encode("The film"), TOKENIZERS["sentence_piece"]
    assert plain == GOLDEN["byte_level"]["begun"] and llama.encode("The film", begin=True) == GOLDEN["sentence_piece"]["begun"] != llama.encode("The film")
    assert BYTES.encode("The film", begin=True, end=True) == [*plain, 2]
    assert llama.encode("The film", begin=True, end=True) == [1, *llama.encode("The film"), 2]
    assert BYTES.encode("") == llama.encode("") == [] and BYTES.encode("", begin=True) == llama.encode("", begin=True) == [1]
    assert BYTES.encode("", end=True) == [2] and BYTES.encode("", begin=True, end=True) == [1, 2]


@pytest.mark.parametrize("says, begun", [(True, 1), (False, 0), (None, 1)])
def test_the_begin_token_is_the_checkpoints_convention(says, begun):
    """Catches: add_bos_token read past, or asked of tokenizer.json where tokenizer_config.json says otherwise."""
    tokenizer = PretrainedTokenizer(content_of("sentence_piece"), settings_of("sentence_piece", add_bos_token=says))
    assert tokenizer.encode("sea", begin=True) == [1] * begun + tokenizer.encode("sea")


def test_end_tokens():
    """Catches: only one of several ends, the base model's before the chat's, numbers of another tokenizer in a config taken for tokens."""
    assert (BYTES.end_id, BYTES.end_ids, BYTES.begin_id, BYTES.pad_id, BYTES.vocabulary_size) == (2, (2, 0), 1, 2, 640)
    assert TOKENIZERS["sentence_piece"].end_ids == (2,)
    numbered = PretrainedTokenizer(content_of(), {}, {"eos_token_id": [2, 77]}, {"bos_token_id": 50, "eos_token_id": 0, "pad_token_id": -1})
    assert (numbered.end_ids, numbered.begin_id, numbered.pad_id) == ((2,), 2, 2)
    assert numbered.vocabulary_size == max(json.loads(content_of())["model"]["vocab"].values()) + 2  # <think> is the last
    config = PretrainedTokenizer(content_of(), {}, {}, {"bos_token_id": 0, "eos_token_id": 2, "text_config": {"vocab_size": 700}})
    assert (config.end_ids, config.begin_id, config.vocabulary_size) == ((2,), 0, 700)


def test_a_command_that_is_not_marked_is_one_still():
    """Catches: an end token that tokenizer.json lists without "special", or only in its vocabulary, which any text could then write."""
    content = json.loads(content_of())
    content["added_tokens"] = [token | {"special": False} for token in content["added_tokens"] if token["id"] != 1]
    tokenizer = PretrainedTokenizer(json.dumps(content), settings_of())
    assert set(tokenizer.special_tokens) == {"<|im_start|>", "<|im_end|>"}
    assert tokenizer.encode("<|im_end|><|im_start|>") == BYTES.encode("<|im_end|><|im_start|>") and tokenizer.decode([1, 2]) == ""


def test_texts_are_never_cut_or_padded():
    """Catches: a tokenizer.json that was saved with a length, as those of sentence encoders are."""
    cut = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    padded = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}
    tokenizer = PretrainedTokenizer(content_of(truncation=cut, padding=padded), settings_of())
    assert tokenizer.encode("supercalifragilistic") == BYTES.encode("supercalifragilistic") and tokenizer.encode("a") == BYTES.encode("a")


def test_pieces_can_be_read():
    """Catches: GPT-2's alphabet in tables (Ġ for a space, æĺ for Chinese), a line break that breaks one, a special token or an unknown id that raises."""
    assert "".join(BYTES.pieces(BYTES.encode("The film 好好 12"))) == "The▁film▁好好▁12"
    assert BYTES.pieces([0, 2]) == ["<|endoftext|>", "<|im_end|>"] and BYTES.pieces([639]) == ["[639]"]
    assert BYTES.pieces(BYTES.encode("\n")) == ["<0x0A>"] == TOKENIZERS["sentence_piece"].pieces(TOKENIZERS["sentence_piece"].encode("\n"))[1:]
    assert "".join(BYTES.pieces(BYTES.encode("龘"))) == "<0xE9><0xBE><0x98>"
    assert TOKENIZERS["sentence_piece"].pieces(TOKENIZERS["sentence_piece"].encode("the sea"))[0].startswith("▁")
    assert BYTES.pieces(np.array([1])) == ["<|im_start|>"]


def test_free_ids_are_nothing():
    """Catches: ids beyond the tokenizer's, which the model has logits for, shown as the letters by which templates write commands."""
    free = range(max(json.loads(content_of())["model"]["vocab"].values()) + 2, BYTES.vocabulary_size)
    assert len(free) > 50 and BYTES.pieces(free) == [f"[{i}]" for i in free] and BYTES.decode([*BYTES.encode("a"), *free, *BYTES.encode("b")]) == "ab"


def test_one_piece_is_found():
    """Catches: a space that is not spelled as the vocabulary spells it; None for what is no piece."""
    for text in ("the", " film", "好"):
        assert [BYTES.id_of(text)] == BYTES.encode(text)
    assert BYTES.id_of("<|im_end|>") == 2 and [TOKENIZERS["sentence_piece"].id_of(" film")] == TOKENIZERS["sentence_piece"].encode("film")
    with pytest.raises(InputError, match="'positive:' is no token.*Use one that is one piece"):
        BYTES.id_of("positive:")


def test_a_question_is_a_line():
    """Catches: an answer that would begin within the question, the begin token forgotten."""
    assert BYTES.encode_question("The film?") == BYTES.encode("The film?\n")
    assert TOKENIZERS["sentence_piece"].encode_question("The film?") == [1, *TOKENIZERS["sentence_piece"].encode("The film?\n")]


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_and_response_make_the_whole_text(kind):
    """Catches: padding found by its id, where that is the end token's; a response that loses its first space; a character cut in two."""
    tokenizer, text = TOKENIZERS[kind], "The film about 🎬 the sea"
    ids, pad = tokenizer.encode(text), tokenizer.pad_id
    for cut in range(1, len(ids)):
        prompt, response = np.array([[pad, *ids[:cut]]]), np.array([[*ids[cut:], tokenizer.end_id, pad]])
        prompts = Prompts(prompt, np.array([[0.0] + [1.0] * cut]))
        responses = Responses(response, np.array([[1.0] * (len(ids) - cut + 1) + [0.0]]), None, None)
        (prompt_text,), (response_text,) = tokenizer.decode_pairs(prompts, responses)
        assert prompt_text == tokenizer.decode(ids[:cut]) and (prompt_text + response_text == text or "\ufffd" in prompt_text)


def test_save_and_load(tmp_path):
    """Catches: a file without the ids or the chat template; bytes that differ from process to process, so that no run can be compared with another."""
    for kind, tokenizer in TOKENIZERS.items():
        path = tmp_path / "tokenizer.model"
        tokenizer.save(path)
        loaded = PretrainedTokenizer.load(path)
        assert loaded.model == tokenizer.model == PretrainedTokenizer.from_folder(FOLDER / kind).model
        for name in ("vocabulary_size", "pad_id", "begin_id", "end_id", "end_ids", "special_tokens", "chat_template", "named_tokens"):
            assert getattr(loaded, name) == getattr(tokenizer, name), name
        assert loaded.encode("The film 电影", begin=True) == tokenizer.encode("The film 电影", begin=True)
    assert TOKENIZERS["byte_level"].model != TOKENIZERS["sentence_piece"].model
    with pytest.raises(InputError, match="SentencePiece model"):
        Tokenizer.load(path)
    for content in (b"\n\x01\xff", b"{}", b"[1]", BYTES.model[:-9]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="tokenizer.model is damaged, or no tokenizer of a checkpoint"):
            PretrainedTokenizer.load(path)


def test_a_folder_of_older_or_newer_form(tmp_path):
    """Catches: names of tokens that older checkpoints keep apart, the template that newer ones keep apart, the default of several."""
    shutil.copytree(FOLDER / "byte_level", tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|endoftext|>"}}')
    older = PretrainedTokenizer.from_folder(tmp_path)
    assert older.end_ids == (0, 2) and older.chat_template is None and older.named_tokens == {"eos_token": "<|endoftext|>"}
    (tmp_path / "chat_template.jinja").write_text("{{ 1 }}")
    assert PretrainedTokenizer.from_folder(tmp_path).chat_template == "{{ 1 }}"
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    assert PretrainedTokenizer(content_of(), settings_of(chat_template=several)).chat_template == "yes"


@pytest.mark.parametrize("pre", ["smollm", "gpt-2", "default", "llama-bpe", "qwen2"])
def test_ids_from_gguf(pre):
    """Catches: digits or words cut as another family cuts them, whole words before merges, letters not composed, kinds of tokens mixed up."""
    tokenizer = PretrainedTokenizer.from_gguf_metadata(gguf_metadata(pre=pre))
    golden = GOLDEN["byte_level"]["ids"] if pre == "smollm" else GOLDEN["pre"]["gpt-2" if pre == "default" else pre]
    for text, ids in zip(GOLDEN["texts"], golden):
        assert tokenizer.encode(text) == ids, text
    assert tokenizer.special_tokens == BYTES.special_tokens
    assert tokenizer.encode("sea", begin=True)[:-1] == ([1] if pre == "llama-bpe" else []) + tokenizer.encode("sea")[:-1]


def test_the_rest_of_the_gguf_metadata():
    """Catches: a second end token or the template left out, a padding token of no use, a begin token that the file asks for or refuses."""
    metadata = gguf_metadata(eot_token_id=np.int32(0), padding_token_id=0, add_bos_token=True)
    tokenizer = PretrainedTokenizer.from_gguf_metadata(metadata | {"tokenizer.chat_template": "{{ eos_token }}"})
    assert (tokenizer.end_ids, tokenizer.begin_id, tokenizer.pad_id, tokenizer.vocabulary_size) == ((2, 0), 1, 0, len(metadata["tokenizer.ggml.tokens"]))
    assert tokenizer.chat_template == "{{ eos_token }}" and tokenizer.named_tokens["eos_token"] == "<|im_end|>"
    assert tokenizer.encode("sea", begin=True) == [1, *tokenizer.encode("sea")]
    without = PretrainedTokenizer.from_gguf_metadata(gguf_metadata(pre="llama-bpe", add_bos_token=False))
    assert without.encode("sea", begin=True) == without.encode("sea") and without.pad_id == 2 and without.chat_template is None


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(model="llama"), r"tokenizer.ggml.model is 'llama', expected 'gpt2'.*Use the checkpoint's folder"),
        (dict(pre="tekken"), r"tokenizer.ggml.pre is 'tekken', expected smollm, gpt-2, default, llama-bpe, qwen2\. Use"),
        (dict(merges=None, tokens=None), r"lack tokenizer.ggml.tokens, tokenizer.ggml.merges\. Download"),
        (dict(token_type=[1, 3]), r"names 553 tokens and 2 of their kinds\. Download"),
    ],
)
def test_a_gguf_tokenizer_that_is_not_ours(changes, said):
    """Catches: texts cut by a pattern that the model was not trained with, without a word."""
    with pytest.raises(InputError, match=said):
        PretrainedTokenizer.from_gguf_metadata(gguf_metadata(**changes))


@pytest.mark.parametrize(
    "text, settings, config, said",
    [
        ("nothing", {}, {}, "tokenizer.json is 'nothing', which is no tokenizer: JSONDecodeError.*Take the tokenizer.json"),
        ("[]", {}, {}, r"tokenizer.json is '\[\]', which is no tokenizer: TypeError"),
        ('{"model": {"vocab": {}}}', {}, {}, "which is no tokenizer: ValueError"),
        (content_of(model={"type": "Unigram", "vocab": []}), {}, {}, "a model of type 'Unigram', expected BPE"),
        (content_of(pre_tokenizer={"type": "Tea"}), settings_of(), {}, "tokenizer.json cannot be read: .*Download it again"),
        (content_of(), {}, {}, "no end token. Name one: eos_token"),
        (content_of(), dict(eos_token="<stop>"), {}, "eos_token is '<stop>', which tokenizer.json lacks"),
        (content_of(), settings_of(), {"vocab_size": 300}, r"has a token \d+, but vocab_size=300 in config.json"),
        (content_of(), settings_of(), {"vocab_size": "many"}, "vocab_size='many' is no whole number"),
    ],
)
def test_what_is_no_tokenizer(text, settings, config, said):
    """Catches: an error of Rust's or a KeyError; ids beyond the logits of the model, which XLA would clamp without a word."""
    with pytest.raises(InputError, match=said) as caught:
        PretrainedTokenizer(text, settings, {}, config)
    assert "\n" not in str(caught.value)


def test_ids_with_gaps():
    """Catches: a piece whose id a command of a chat template takes, because tokenizers counts pieces where their ids end later."""
    content = json.loads(content_of())
    vocabulary = content["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] += 3
    with pytest.raises(InputError, match="the ids in tokenizer.json have gaps, expected 0, 1, 2"):
        PretrainedTokenizer(json.dumps(content), settings_of())


def test_what_is_no_text():
    """Catches: a TypeError of Rust's for None, a UnicodeEncodeError for half of a surrogate pair."""
    with pytest.raises(InputError, match="a text is None, expected a string"):
        BYTES.encode(None)
    with pytest.raises(InputError, match="no text that UTF-8 can hold"):
        BYTES.encode("a \ud800 b")


def test_what_is_no_folder(tmp_path, monkeypatch):
    """Catches: a traceback for a folder without tokenizer or with a file that is cut off; a missing package that is not named."""
    with pytest.raises(InputError, match="no tokenizer.json in .*Take a checkpoint that has one"):
        PretrainedTokenizer.from_folder(tmp_path)
    shutil.copytree(FOLDER / "byte_level", tmp_path, dirs_exist_ok=True)
    damages = [("config.json", b'{"vocab', "is damaged"), ("config.json", b"[]", "expected an object"), ("tokenizer.json", b"\xff", "cannot read")]
    for name, content, said in damages:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=said):
            PretrainedTokenizer.from_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"pip install 'ppo_keras\[pretrained\]'"):
        PretrainedTokenizer.from_folder(FOLDER / "byte_level")


@pytest.mark.pretrained
def test_smollm2_is_exact():
    """Catches: any id of the real vocabulary that transformers would write otherwise."""
    tokenizer, golden = smollm2(), json.loads((FOLDER / "smollm2.json").read_text())
    for text, ids in zip(GOLDEN["texts"], golden["ids"]):
        assert tokenizer.encode(text) == ids and tokenizer.decode(ids) == text, text
    assert (tokenizer.vocabulary_size, tokenizer.begin_id, tokenizer.end_ids) == (49152, 1, (2,))
