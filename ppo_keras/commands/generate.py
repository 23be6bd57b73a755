"""The command `generate`: the model of a run continues a prompt, answers a question, translates, or labels a text."""

import tensorflow as tf

from ppo_keras.datasets.cleaning import clean
from ppo_keras.errors import InputError, check_seed, require
from ppo_keras.language import generation
from ppo_keras.language.control_codes import with_code
from ppo_keras.language.generation import Prompts, pad_prompts
from ppo_keras.language.supervised import pad_texts
from ppo_keras.networks.encoder import NO_TOKEN
from ppo_keras.pretrained.asking import Asking
from ppo_keras.pretrained.tokenizer import load_tokenizer
from ppo_keras.runs.folder import Run
from ppo_keras.runs.models import load_policy, load_settings
from ppo_keras.tasks.opening import check_temperature


def generate(options):
    """Prints continuations of prompts; answers or translations, in a run of such a task; labels, of a classifier.

    Args:
        options: a namespace with the options of `ppo-keras generate`.

    Raises:
        InputError: no such run, a prompt longer than the context or without the control code that the run needs, a setting out of
            range, or of drawing for a classifier.
    """
    require(options.count >= 1, f"--count {options.count} is less than 1. Use 1 or more.")
    require(
        options.length is None or options.length >= 1,
        f"--length {options.length} is less than 1. Use a number of tokens such as 30.",
    )
    check_temperature(options.temperature)
    require(options.top_k is None or options.top_k >= 1, f"--top-k {options.top_k} is less than 1. Use a number such as 40.")
    require(options.top_p is None or 0 < options.top_p <= 1, f"--top-p {options.top_p} is outside (0, 1]. Use a number such as 0.9.")
    check_seed(options.seed, "--seed")
    run = Run.open(options.run, options.runs_folder)
    run.check_one_seed()
    config = run.load_json("config.json")
    tokenizer = load_tokenizer(run.path("tokenizer.model"))
    if config.get("task") == "classification":
        return label(run, config, tokenizer, options)
    asking = Asking(tokenizer, load_settings(run), config.get("answers", False))
    typed = [clean(prompt, "--prompt") for prompt in options.prompt]
    try:
        typed = [with_code(prompt, config["label_names"]) for prompt in typed] if config.get("control_codes") else typed
        context, length = config["context"], options.length or config["response_tokens"]
        temperature = options.temperature or config["ppo"]["temperature"]
    except KeyError as error:
        raise InputError(f"{run.path('config.json')} lacks {error}: another version of ppo_keras wrote it. Train the run again.") from error
    token_lists = [asking.ids(prompt) for prompt in typed]
    longest = max(map(len, token_lists))
    if longest >= context:
        raise InputError(f"a prompt has {longest} tokens, but the context of this run holds {context - 1} and a response. Shorten the prompt.")
    require(
        options.length is None or options.length <= context - longest,
        f"--length {options.length} is too long: the context leaves {context - longest} tokens.",
    )
    policy = load_policy(run, options.stage)
    prompts = Prompts(*map(tf.constant, pad_prompts(token_lists * options.count, longest, tokenizer.pad_id)))
    responses = generation.generate(
        policy, prompts, min(length, context - longest), tokenizer.end_ids, tokenizer.pad_id,
        tf.constant([options.seed, 0]), temperature, options.greedy, options.top_k, options.top_p,
    )  # fmt: skip
    for prompt, response in zip(*tokenizer.decode_pairs(prompts, responses)):
        print((response.strip() if asking.answers else prompt + response).replace("\n", " "))


def label(run, config, tokenizer, options):
    """Prints the label that a classifier gives each prompt, and the probability of every label."""
    names = ("length", "temperature", "top_k", "top_p", "greedy")  # unset: None or False
    given = ["--" + name.replace("_", "-") for name in names if getattr(options, name)] + ["--count"] * (options.count > 1)
    require(not given, f"the run {options.run} is a classifier, which draws nothing. Leave out {', '.join(given)}.")
    texts = pad_texts([tokenizer.encode(clean(prompt, "--prompt"), begin=True) for prompt in options.prompt], config["text_length"], NO_TOKEN)[0]
    logits, _ = load_policy(run, options.stage)(tf.constant(texts)[:, tf.newaxis], training=False)
    for row in tf.nn.softmax(logits[:, 0]).numpy():
        shares = ", ".join(f"{name} {share:.3f}" for name, share in zip(config["label_names"], row))
        print(f"{config['label_names'][row.argmax()]} ({shares})")
