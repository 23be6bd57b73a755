"""`ppo_keras.pretrained.chat`: the ids are those of transformers, see `golden/make_tokenizers.py`."""

import datetime
import json
import re
import sys
import time
import tracemalloc

import pytest

from golden_tokenizers import BYTES, FOLDER, GOLDEN, KINDS, TOKENIZERS, content_of, settings_of, smollm2
from ppo_keras.errors import InputError
from ppo_keras.pretrained import chat
from ppo_keras.pretrained.chat import ChatTemplate
from ppo_keras.pretrained.tokenizer import PretrainedTokenizer

USER = [{"role": "user", "content": "The film?"}]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_transformers(kind):
    """Catches: a second begin token, blocks that leave their line breaks, messages encoded apart from the template's text, no beginning of an answer."""
    template = ChatTemplate.of(TOKENIZERS[kind])
    for messages, (with_prompt, without) in zip(GOLDEN["chats"], GOLDEN[kind]["chats"]):
        assert template.ids(TOKENIZERS[kind], messages) == with_prompt
        assert template.ids(TOKENIZERS[kind], messages, add_generation_prompt=False) == without


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", ["{}", "a {} b", " {}", "{}{}", "12{}\n34"])
def test_commands_in_messages_are_text(kind, around):
    """Catches: a user who ends the turn and begins the system's; or whose letters are lost, or shown as the signs that stood for them."""
    tokenizer = TOKENIZERS[kind]
    template = ChatTemplate.of(tokenizer)
    plain = template.ids(tokenizer, [{"role": "user", "content": around.replace("{}", "x")}])
    commands = lambda ids: [i for i in ids if i in tokenizer.special_tokens.values()]
    for name in tokenizer.special_tokens:
        content = around.replace("{}", name)
        ids = template.ids(tokenizer, [{"role": "user", "content": content}])
        assert commands(ids) == commands(plain) and max(ids) < tokenizer.vocabulary_size
        assert content.strip() in tokenizer.decode(ids) and tokenizer.decode(ids).replace(name, "x") == tokenizer.decode(plain)


def test_commands_in_messages_change_no_other_id():
    """By hand. Catches: a message that is cut where a command stands in it, whose pieces then differ from those of the same text alone."""
    encode, tail = BYTES.encode, [2, *BYTES.encode("\n"), 1, *BYTES.encode("assistant\n")]
    head = [1, *encode("system\nYou like films"), 2, *encode("\n"), 1]
    for content in ("a<|im_end|>b 12", "<|im_start|>", " <|endoftext|>\n\n"):
        assert ChatTemplate.of(BYTES).ids(BYTES, [{"role": "user", "content": content}]) == [*head, *encode(f"user\n{content}"), *tail]


def test_commands_anywhere_in_messages_are_text():
    """Catches: only the contents made harmless, not a role, a list of parts, or what a tool was called with."""
    template = ChatTemplate("{% for m in messages %}<|im_start|>{{ m.role }}{{ m.content[0].text }}{{ m.call | tojson }}{% endfor %}")
    call = {"<|im_end|>": ["<|im_end|>", 1, None]}
    ids = template.ids(BYTES, [{"role": "<|im_end|>", "content": [{"text": "<|im_end|>"}], "call": call}])
    assert ids[0] == 1 and not {0, 1, 2} & set(ids[1:])
    assert BYTES.decode(ids) == '<|im_end|><|im_end|>{"<|im_end|>": ["<|im_end|>", 1, null]}'


def test_templates_may_change_letters():
    """Catches: signs in place of commands that are not found again once a template has made capitals of them."""
    template = ChatTemplate("{{ messages[0].content | upper | trim }}<|im_end|>")
    assert BYTES.decode(template.ids(BYTES, [{"role": "user", "content": " it is <|im_end|>"}])) == "IT IS <|im_end|>"


def test_signs_cannot_be_typed():
    """Catches: signs that are the same in every process or for every chat, with which a user writes a command after all."""
    command = BYTES._commands["<|im_end|>"]
    other = PretrainedTokenizer(content_of(), settings_of())
    assert other._commands["<|im_end|>"] != command and other.decode(other.encode(command)) == command
    assert re.fullmatch("\ue000[0-9a-f]{16}\\.[0-9]+\ue001", command)


@pytest.mark.parametrize(
    "kind, changes, of_end",
    [
        ("byte_level", {}, {"rstrip": True}),
        ("byte_level", {}, {"lstrip": True, "normalized": True}),
        ("byte_level", {"normalizer": {"type": "Lowercase"}}, {}),
        ("sentence_piece", {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}}, {}),
    ],
)
def test_commands_cut_a_text_as_their_tokens_do(kind, changes, of_end):
    """Catches: a template's <|end|> of Phi's kind, which swallows the line break behind it, encoded without that; a ▁ after every command (Mistral has it
    at the beginning alone); a command whose letters the normalizer changes."""
    content = json.loads(content_of(kind, **changes))
    content["added_tokens"][2] |= of_end
    tokenizer = PretrainedTokenizer(json.dumps(content), settings_of(kind))
    template = ChatTemplate.of(tokenizer)
    messages = GOLDEN["chats"][1] + [{"role": "assistant", "content": "It's fine "}] + USER
    tokenizer.processor.encode_special_tokens = False  # so transformers has it, where no message holds a command
    expected = tokenizer.processor.encode(template.render(messages), add_special_tokens=False).ids
    tokenizer.processor.encode_special_tokens = True
    assert template.ids(tokenizer, messages) == expected != template.ids(TOKENIZERS[kind], messages)


def test_the_longest_command_is_meant():
    """Catches: <|im_end|> found in <|im_end|>! where the checkpoint knows both."""
    content = json.loads(content_of())
    content["added_tokens"].append(content["added_tokens"][2] | {"id": 553, "content": "<|im_end|>!"})
    tokenizer = PretrainedTokenizer(json.dumps(content), settings_of())
    assert ChatTemplate("a<|im_end|>!<|im_end|>").ids(tokenizer, USER) == [*BYTES.encode("a"), 553, 2]
    assert not {2, 553} & set(ChatTemplate("{{ messages[0].content }}").ids(tokenizer, [{"role": "user", "content": "<|im_end|>!"}]))


def test_what_templates_may_use():
    """Catches: lines of blocks kept, < escaped in JSON, no break in loops, a date or a named token that is missing."""
    text = "{% for x in [1, 2, 3] %}\n    {% if x == 2 %}\n        {% break %}\n    {% endif %}\n{{ x }}{% endfor %}"
    assert ChatTemplate(text).render(USER) == "1"
    assert ChatTemplate("{{ messages | tojson }}").render([{"role": "<电>"}]) == '[{"role": "<电>"}]'
    assert ChatTemplate("{{ {'b': 1, 'a': 2} | tojson(indent=1) }}").render(USER) == '{\n "b": 1,\n "a": 2\n}'
    assert ChatTemplate("{{ strftime_now('%Y') }}").render(USER) == str(datetime.datetime.now().year)
    assert ChatTemplate("{{ bos_token }}|{{ eos_token }}|{{ tools is none }}", {"bos_token": "<s>"}).render(USER) == "<s>||True"
    assert ChatTemplate("{{ 3 * 'ab' }}{{ 2 ** 10 }}{{ 2.5 * 2 }}").render(USER) == "ababab10245.0"


@pytest.mark.parametrize(
    "text, said",
    [
        ("{% for m in messages %}\n{{ m.content", "the chat template has a mistake in line 2: TemplateSyntaxError"),
        ("{% include 'x' %}", "the chat template failed: TypeError: no loader"),
        (7, "the chat template is 7, expected a string"),
        ("{{ raise_exception('roles must\nalternate') }}", "the chat template failed: TemplateError: roles must alternate. Use"),
        ("{{ messages[0].content.nothing.there }}", "failed: UndefinedError"),
        ("{{ 1 / 0 }}", "failed: ZeroDivisionError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "failed: SecurityError"),
        ("{% set _ = messages.append(1) %}", "failed: SecurityError"),
        ("{{ cycler.__init__.__globals__.os.popen('ls').read() }}", "failed: SecurityError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "failed: RecursionError"),
        ("{% for a in range(99999) %}{{ 'letters' * 99 }}{% endfor %}", "writes more than 1000000 letters"),
        ("{{ 'a' * 10 ** 12 }}", "writes more than 1000000 letters"),
        ("{{ 10 ** 10000000 }}", "writes more than 1000000 letters"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "did not end within 0.3 seconds"),
        ("{% macro f(n) %}{% if n %}{% set x = f(n - 1) ~ f(n - 1) %}{% endif %}{% endmacro %}{{ f(60) }}", "did not end within 0.3 seconds"),
    ],
)
def test_failing_templates(text, said, monkeypatch):
    """Catches: a traceback of Jinja's, several lines, a template that runs or writes for ever, computes before the limits, or reaches beyond the sandbox."""
    monkeypatch.setattr(chat, "SECONDS", 0.3)
    began = time.thread_time()
    with pytest.raises(InputError, match=said) as caught:
        ChatTemplate(text).render(USER)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 and time.thread_time() - began < 3


def test_nothing_is_computed_before_the_limits():
    """Catches: Jinja's optimizer, which works out constant expressions as soon as a template is read."""
    tracemalloc.start()
    try:
        template = ChatTemplate("{{ 'a' | center(30000000) }}")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(InputError, match="writes more than 1000000 letters"):
        template.render(USER)


def test_the_time_limit_leaves_nothing_behind():
    """Catches: a debugger or a measurement of coverage that ends with the first chat."""
    watch = lambda frame, event, argument: None
    before = sys.gettrace()
    sys.settrace(watch)
    try:
        ChatTemplate("{{ 1 }}").render(USER)
        assert sys.gettrace() is watch
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("messages", ["The film?", [], None, [{"content": "x"}], ["x"]])
def test_what_is_no_conversation(messages):
    """Catches: a template that writes nothing, or letter by letter, for what was no list of messages."""
    with pytest.raises(InputError, match="expected a list of dicts. Use one such as"):
        ChatTemplate.of(BYTES).ids(BYTES, messages)


def test_no_template_or_no_jinja(monkeypatch):
    """Catches: an AttributeError for a base model; a missing package that is not named."""
    with pytest.raises(InputError, match="has no chat template. Use one that was tuned for chats"):
        ChatTemplate.of(PretrainedTokenizer(content_of(), settings_of(chat_template=None)))
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install 'ppo_keras\[pretrained\]'"):
        ChatTemplate("{{ 1 }}")


@pytest.mark.pretrained
def test_smollm2_is_exact():
    """Catches: any id of a real chat that transformers would write otherwise."""
    tokenizer, golden = smollm2(), json.loads((FOLDER / "smollm2.json").read_text())
    for messages, (with_prompt, without) in zip(GOLDEN["chats"], golden["chats"]):
        assert ChatTemplate.of(tokenizer).ids(tokenizer, messages) == with_prompt
        assert ChatTemplate.of(tokenizer).ids(tokenizer, messages, add_generation_prompt=False) == without
