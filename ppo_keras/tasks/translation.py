"""The task `translation`: the reward is the chrF or BLEU of each sentence, from sacrebleu (the extra `translation`)."""

from ppo_keras.datasets.loader import load_pairs
from ppo_keras.errors import InputError
from ppo_keras.tasks import answering


def train(config, resume=False):
    """Runs the task; see `answering.train`. `config` is a `TranslationConfig`."""
    return answering.train(config, Translation(config), resume)


def import_sacrebleu():
    """The package; raises `InputError` naming the extra where it is missing."""
    try:
        import sacrebleu
    except ImportError as error:
        raise InputError("translation is scored by the package sacrebleu. Install it with: pip install 'ppo_keras[translation]'.") from error
    return sacrebleu


class Translation:
    """Texts with their translations, as `answering.train` wants a task."""

    name = "translation"

    def __init__(self, config):
        self.config, self.metrics = config, import_sacrebleu().metrics

    def load(self, minimum):
        """The bundled phrases, a TFDS dataset, or the user's files. Then the scores are set up for the target's script."""
        config = self.config
        corpus = load_pairs(
            config.data, config.dataset, "phrases", config.source_column, config.target_column, ("source", "target"),
            seed=config.seed, minimum=minimum, validation_data=config.validation_data, test_data=config.test_data,
        )  # fmt: skip
        tokenize = "zh" if is_chinese(corpus.train.references) else "13a"
        self.chrf, self.bleu = self.metrics.CHRF(), self.metrics.BLEU(tokenize=tokenize)
        sentence = self.metrics.BLEU(tokenize=tokenize, effective_order=True)  # short sentences have no 4-grams
        self.of_sentence = self.chrf if config.reward == "chrf" else sentence
        return corpus

    def reward(self, response, references):
        """chrF or BLEU of one sentence, 0 to 1."""
        return self.of_sentence.sentence_score(response, references).score / 100.0

    def measures(self, responses, references):
        """sacrebleu's scores of the whole split, 0 to 100."""
        most = max(map(len, references))
        streams = [[several[i] if i < len(several) else None for several in references] for i in range(most)]
        return {"bleu": self.bleu.corpus_score(responses, streams).score, "chrf": self.chrf.corpus_score(responses, streams).score}


def is_chinese(references):
    """Whether most letters of some references are Chinese characters, which BLEU then counts as words."""
    letters = [letter for several in references[:1000] for letter in several[0] if letter.isalpha()]
    return sum("\u3400" <= letter <= "\u9fff" for letter in letters) > len(letters) / 2
