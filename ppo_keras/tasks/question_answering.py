"""The task `question-answering`: the reward is that the answer is right, which needs no reward model (a verifiable reward)."""

import collections
import re
import string

from ppo_keras.datasets.loader import load_pairs
from ppo_keras.tasks import answering

SIGNS = r"(?<!\w)-(?=\.?\d)|(?<=\w)-(?=\w)|(?<=\d)[.,](?=\d)|(?<!\w)\.(?=\d)|(?<=\d)%"  # that belong to a number or a word
PUNCTUATION = re.compile(f"(?!{SIGNS})[{re.escape(string.punctuation)}。，！？、；：“”‘’（）]")
ARTICLES = r"(?<![\w-])(a|an|the)(?![\w-])"


def train(config, resume=False):
    """Runs the task; see `answering.train`. `config` is a `QuestionAnsweringConfig`."""
    return answering.train(config, QuestionAnswering(config), resume)


class QuestionAnswering:
    """Questions with answers, as `answering.train` wants a task."""

    name = "question-answering"

    def __init__(self, config):
        self.config = config

    def load(self, minimum):
        """The bundled questions, a TFDS dataset, or the user's files."""
        config = self.config
        return load_pairs(
            config.data, config.dataset, f"questions/{config.questions}", config.question_column, config.answer_column,
            ("question", "answer"), seed=config.seed, minimum=minimum, validation_data=config.validation_data, test_data=config.test_data,
        )  # fmt: skip

    def reward(self, response, references):
        """1 for an exact match, else the F1 of the words times `partial_credit`."""
        if exact_match(response, references):
            return 1.0
        return self.config.partial_credit * word_f1(response, references)

    def measures(self, responses, references):
        """Means of exact match and F1."""
        mean = lambda measure: sum(map(measure, responses, references)) / len(responses)
        return {"exact_match": mean(exact_match), "f1": mean(word_f1)}


def normalise(text):
    """An answer as it is compared: lower case, without articles, single spaces for punctuation (after Rajpurkar et al. 2016).

    The sign of a number stays, so that -5 is not 5, its points and commas, and the hyphen of twenty-one. An answer that is
    nothing but an article or punctuation (the choice "A") stays as it is.

    Example:
        >>> normalise("The  Kitchen!")
        'kitchen'
    """
    text = text.lower().replace("−", "-")
    plain = re.sub(ARTICLES, " ", PUNCTUATION.sub(" ", text))
    return " ".join(plain.split()) or text.strip()


def exact_match(response, references):
    """1.0 where the response is one of the references, once normalised."""
    return float(normalise(response) in {normalise(reference) for reference in references})


def word_f1(response, references):
    """The best F1 of the words (of Chinese text, the characters) of a response and one of its references (Rajpurkar et al. 2016).

    Example:
        >>> word_f1("the old red hat", ["red hat"])  # precision 2/3, recall 1
        0.8
    """
    return max(_f1(_words(response), _words(reference)) for reference in references)


def _words(text):
    return re.findall(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+", normalise(text))


def _f1(found, wanted):
    common = sum((collections.Counter(found) & collections.Counter(wanted)).values())
    return 2.0 * common / (len(found) + len(wanted)) if common else float(not found and not wanted)
