"""What a policy reads of a prompt that somebody typed."""

from ppo_keras.pretrained.chat import ChatTemplate


class Asking:
    """From the text of a prompt to its token ids: as the beginning of a text, as a question, or as the user's turn of a chat.

    Args:
        tokenizer: of the policy.
        settings: a `PretrainedConfig`.
        answers: whether the policy answers a text, or goes on with it.

    Raises:
        InputError: the checkpoint has no chat template, but the settings ask for it.
    """

    def __init__(self, tokenizer, settings, answers):
        self.tokenizer, self.answers, self.format = tokenizer, answers or settings.chat, settings.prompt_format
        self.template = ChatTemplate.of(tokenizer) if settings.chat else None

    @property
    def frames(self):
        """Whether anything is written around a prompt."""
        return self.template is not None or self.format != "{}"

    def written(self, text):
        """A prompt with what is written around it."""
        return self.format.replace("{}", text)

    def ids(self, text, before=()):
        """Token ids of a prompt.

        Args:
            text: str.
            before: the turns of a chat so far, dicts with "role" and "content".
        """
        text = self.written(text)
        if self.template:
            return self.template.ids(self.tokenizer, [*before, {"role": "user", "content": text}])
        return self.tokenizer.encode_question(text) if self.answers else self.tokenizer.encode(text, begin=True)
