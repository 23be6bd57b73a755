"""The bundled corpus: short film reviews written for this package, as a TFDS builder that needs no network."""

import importlib.resources

import tensorflow_datasets as tfds

LANGUAGES = {"en": "English", "zh": "Chinese"}

_DESCRIPTION = """Film reviews of one sentence each, half of them positive, written for ppo_keras; small enough for a laptop.
Neighbouring reviews that share wording are kept in one split, so that the test split measures more than memory."""


class FilmReviews(tfds.core.GeneratorBasedBuilder):
    """Short film reviews with sentiment labels, in English (`film_reviews/en`) and Chinese (`film_reviews/zh`).

    Importing this module registers the name with TFDS.

    Example:
        >>> import ppo_keras.datasets.film_reviews
        >>> reviews = tfds.load("film_reviews/zh", split="train")
    """

    # A prepared copy of the same version is reused from disk: a change of the .tsv files needs a new version.
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "2000 English and 480 Chinese reviews."}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=code, description=f"Reviews in {language}.") for code, language in LANGUAGES.items()]

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["negative", "positive"])})
        return self.dataset_info_from_configs(description=_DESCRIPTION, features=features, supervised_keys=("text", "label"), disable_shuffling=True)

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {name: self._generate_examples(name) for name in ("train", "validation", "test")}

    def _generate_examples(self, wanted):
        table = importlib.resources.files("ppo_keras.datasets") / "data" / f"film_reviews_{self.builder_config.name}.tsv"
        rows = table.read_text(encoding="utf-8").splitlines()[1:]
        for number, row in enumerate(rows):
            split, label, text = row.split("\t")
            if split == wanted:
                yield number, {"text": text, "label": int(label)}
