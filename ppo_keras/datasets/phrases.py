"""The bundled phrases: everyday English with its Chinese translation, as a TFDS builder that needs no network."""

import importlib.resources

import tensorflow_datasets as tfds

_DESCRIPTION = """Everyday sentences in English and Chinese, written for ppo_keras within a vocabulary of some 700 words.
No sentence of either language is in two splits; but words and patterns recur, so that a small model can learn them."""


class Phrases(tfds.core.GeneratorBasedBuilder):
    """Pairs of an English sentence and its Chinese translation.

    Importing this module registers the name with TFDS.

    Example:
        >>> import ppo_keras.datasets.phrases
        >>> phrases = tfds.load("phrases", split="train")
    """

    # A prepared copy of the same version is reused from disk: a change of the .tsv file needs a new version.
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The first edition."}

    def _info(self):
        features = tfds.features.FeaturesDict({"english": tfds.features.Text(), "chinese": tfds.features.Text()})
        return self.dataset_info_from_configs(description=_DESCRIPTION, features=features, supervised_keys=("english", "chinese"), disable_shuffling=True)

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {name: self._generate_examples(name) for name in ("train", "validation", "test")}

    def _generate_examples(self, wanted):
        table = importlib.resources.files("ppo_keras.datasets") / "data" / "phrases.tsv"
        for number, row in enumerate(table.read_text(encoding="utf-8").splitlines()[1:]):
            split, english, chinese = row.split("\t")
            if split == wanted:
                yield number, {"english": english, "chinese": chinese}
