"""The chat template of a checkpoint: messages become the token ids that the model was tuned on."""

import contextlib
import datetime
import json
import re
import secrets
import sys
import time

from ppo_keras.errors import InputError, line_of, require, shown

SECONDS, LETTERS = 2.0, 1_000_000  # what a template may take of the processor, and write
ADVICE = "Use another revision of the checkpoint, or go without its chat template."


class ChatTemplate:
    """A Jinja template, rendered as transformers renders it, in Jinja's sandbox: it reads what it is given and can reach nothing else.

    It is stopped after two seconds of the processor, or a million letters. (One filter that fills memory at once is not.) A template that asks for the
    date, as Llama 3.2's does, writes today's.

    Args:
        template_text: str.
        special_tokens: {"bos_token": "<s>", ...}, which the template may ask for.

    Raises:
        InputError: it has a mistake.

    Example:
        >>> template = ChatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}")
        >>> template.render([{"role": "user", "content": "a fine film?"}])
        'user: a fine film?\\n'
    """

    def __init__(self, template_text, special_tokens=None):
        require(isinstance(template_text, str), f"the chat template is {shown(template_text)}, expected a string. {ADVICE}")
        self.text, self.special_tokens = template_text, dict(special_tokens or {})
        try:
            self.template = _sandbox().from_string(template_text)
        except InputError:
            raise
        except Exception as error:  # a TemplateSyntaxError, or what its parser meets
            line = f" in line {error.lineno}" if hasattr(error, "lineno") else ""
            raise InputError(f"the chat template has a mistake{line}: {line_of(error)}. {ADVICE}") from error

    @classmethod
    def of(cls, tokenizer):
        """The chat template of a `PretrainedTokenizer`. Raises `InputError` where it has none."""
        advice = "Use one that was tuned for chats (an -Instruct), or encode texts without a template."
        require(tokenizer.chat_template is not None, f"the checkpoint has no chat template. {advice}")
        return cls(tokenizer.chat_template, tokenizer.named_tokens)

    def render(self, messages, add_generation_prompt=True):
        """The text of a conversation.

        Args:
            messages: list of dicts such as {"role": "user", "content": "a fine film?"}.
            add_generation_prompt: end with the beginning of the assistant's turn.

        Returns:
            str. In it the template's commands cannot be told from the same letters in a message: for a model use `ids`.

        Raises:
            InputError: messages of another form; the template fails, refuses them, or does not end.
        """
        right = isinstance(messages, list) and messages and all(isinstance(one, dict) and "role" in one for one in messages)
        require(right, f'the messages are {shown(messages)}, expected a list of dicts. Use one such as [{{"role": "user", "content": "a fine film?"}}].')
        parts, letters = [], 0
        try:
            with _time_limit(SECONDS):
                for part in self.template.generate(
                    messages=messages, add_generation_prompt=add_generation_prompt, tools=None, documents=None, **self.special_tokens
                ):
                    letters += len(part)
                    _check_size(letters)
                    parts.append(part)
        except InputError:
            raise
        except Exception as error:  # what a template's expressions may raise: its own errors, Jinja's, Python's
            raise InputError(f"the chat template failed: {line_of(error)}. {ADVICE}") from error
        return "".join(parts)

    def ids(self, tokenizer, messages, add_generation_prompt=True):
        """The token ids of a conversation: special tokens that the template writes are commands, the same letters in a message are text.

        Without such letters in a message they are those of transformers' `apply_chat_template`.

        Args:
            tokenizer: a `PretrainedTokenizer`.
            messages, add_generation_prompt: as in `render`.
        """
        # Messages are rendered with a sign in place of each special token, of letters that nobody can type: what then looks like a command is the template's.
        drawn = secrets.randbits(64)  # digits, for a template may capitalise
        signs = {name: f"\ue000{drawn}:{i}\ue001" for i, name in enumerate(tokenizer.special_tokens)}
        hidden = _changed(messages, lambda text: tokenizer.command_pattern.sub(lambda found: signs[found[0]], text))
        names, sign = list(signs), re.compile(f"\ue000{drawn}:([0-9]+)\ue001")
        return tokenizer.encode_commands(self.render(hidden, add_generation_prompt), lambda text: sign.sub(lambda found: names[int(found[1])], text))


def _changed(messages, change):
    """Messages with every string in them changed."""
    if isinstance(messages, str):
        return change(messages)
    if isinstance(messages, dict):
        return {_changed(name, change): _changed(value, change) for name, value in messages.items()}
    return [_changed(one, change) for one in messages] if isinstance(messages, (list, tuple)) else messages


def _sandbox():
    """The environment in which transformers renders chat templates, with limits."""
    try:
        import jinja2
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise InputError("chat templates need the package jinja2. Install it with: pip install 'ppo_keras[pretrained]'.") from error

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**"])  # 'a' * 10**12, which would fill the memory before it is written

        def call_binop(self, context, operator, left, right):
            if operator == "*":
                for text, times in ((left, right), (right, left)):
                    _check_size(len(text) * times if hasattr(text, "__len__") and isinstance(times, int) else 0)
            else:
                _check_size(left.bit_length() * right if isinstance(left, int) and isinstance(right, int) else 0)
            return super().call_binop(context, operator, left, right)

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):  # Jinja's own would write < as \u003c
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    @jinja2.pass_context
    def at_last(context, value):  # one that wants the context keeps Jinja from working out constants before the limits hold
        return value

    sandbox = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], optimized=False, finalize=at_last)
    sandbox.filters["tojson"] = tojson
    sandbox.globals |= {"raise_exception": raise_exception, "strftime_now": lambda form: datetime.datetime.now().strftime(form)}
    return sandbox


@contextlib.contextmanager
def _time_limit(seconds):
    """Ends what Python runs within, even a loop that writes nothing, after so many seconds of the processor (a busy machine is no mistake of a template)."""
    end, before = time.thread_time() + seconds, sys.gettrace()

    def watch(frame, event, argument):
        require(time.thread_time() < end, f"the chat template did not end within {seconds:g} seconds. {ADVICE}")
        return watch

    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


def _check_size(letters):
    require(letters <= LETTERS, f"the chat template writes more than {LETTERS} letters. {ADVICE}")
