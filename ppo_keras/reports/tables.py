"""What a command prints at its end."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ppo_keras.reports.measures import MEASURES

SPREAD = {"standard deviation": "std", "least": "min", "most": "max"}  # column: what `seeds.spread` calls it


def new_console():
    """A console of plain text, in a notebook too: what is shown there goes past a redirected stdout."""
    return Console(force_jupyter=False)


def print_evaluations(before, after, summary, folder, reward_is, judged, pairs=5):
    """The measures of two `Evaluation`s side by side, then a few responses of each to the same prompts.

    Args:
        before, after: an `Evaluation` each.
        summary, folder: see `print_place`.
        reward_is: what a score is, in words.
        judged: what the judge's share is called.
        pairs: responses that are shown.
    """
    console = new_console()
    table = Table(title="\nBefore and after PPO, on prompts held out", caption=Text(f"The reward is {reward_is}."))
    table.add_column("measure")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    rows = (
        ("mean score (the reward)", "reward", "{:.3f}"),
        (judged, "positive", "{:.1%}"),
        ("KL from the reference (nats a response)", "kl", "{:.2f}"),
        ("distinct-1", "distinct_1", "{:.3f}"),
        ("distinct-2", "distinct_2", "{:.3f}"),
        ("length (tokens)", "length", "{:.1f}"),
        ("ended by itself", "ended", "{:.1%}"),
        ("perplexity under the reference", "perplexity", "{:.1f}"),
    )
    for label, name, form in rows:
        values = [getattr(evaluation, name) for evaluation in (before, after)]
        if values[0] is not None:
            table.add_row(Text(label), *[form.format(value) for value in values])
    console.print(table)
    samples = Table(title="The same prompts", show_lines=True)
    for title in ("prompt", "before", "after"):
        samples.add_column(title)
    for row in list(zip(before.prompts, before.responses, after.responses))[:pairs]:
        samples.add_row(*[Text(cell) for cell in row])
    console.print(samples)
    print_place(summary, folder)


def print_answers(split, before, after, measures, summary, folder, rows=6):
    """Measures before and after PPO, greedy and sampled, then a few prompts with the greedy responses of both."""
    table = Table(title=f"\nBefore and after PPO, on {len(split.texts)} prompts held out")
    table.add_column("measure")
    for title in ("before", "after"):
        table.add_column(title, justify="right")
    for name in [name.removesuffix("_before") for name in measures if name.endswith("_before")]:
        table.add_row(name.replace("_", " "), *[f"{measures[f'{name}_{stage}']:.3f}" for stage in ("before", "after")])
    samples = Table(title="Greedy responses", show_lines=True)
    for title in ("prompt", "reference", "before", "after"):
        samples.add_column(title)
    for prompt, references, *responses in list(zip(split.texts, split.references, before, after))[:rows]:
        samples.add_row(*[Text(cell) for cell in (prompt, references[0], *responses)])
    new_console().print(table)
    new_console().print(samples)
    print_place(summary, folder)


def print_labels(measures, summary, folder):
    """Accuracy, macro F1 and cost of every way to choose a label."""
    table = Table(title=f"\nLabels of {summary['test_texts']} texts held out")
    table.add_column("labels chosen by")
    names = {
        "supervised": "cross-entropy, the most probable",
        "supervised_with_costs": "cross-entropy, the least expected cost",
        "ppo": "PPO",
        "majority": "always the most frequent",
        "one_label": "always the cheapest",
    }
    for title in ("accuracy", "macro F1", "cost"):
        table.add_column(title, justify="right")
    for kind, values in measures.items():
        table.add_row(names[kind], *[f"{value:.3f}" for value in values.values()])
    new_console().print(table)
    print_place(summary, folder)


def print_place(summary, folder):
    """How long it took, and where to look."""
    new_console().print(
        f"{summary['seconds']:.0f} s. Everything is in {folder}; see it with: tensorboard --logdir {folder.parent}",
        soft_wrap=True,
    )


def print_agent(summary, folder):
    """What an agent earns after its training, and with several seeds the spread."""
    console, several = new_console(), "seeds" in summary
    table = Table(title=f"\n{summary['task']}, {summary['model']}, {summary['environment_steps']:,} steps")
    table.add_column("measure")
    for title in ("mean", *SPREAD) if several else ("value",):
        table.add_column(title, justify="right")
    for label, name, form in (
        ("return of the last training episodes", "episode_return", "{:.3f}"),
        ("their length (steps)", "episode_length", "{:.1f}"),
        ("return, greedy", "evaluation_return", "{:.3f}"),
        ("return, sampled", "evaluation_return_sampled", "{:.3f}"),
        ("optimal return", "optimal_return", "{:.3f}"),
        ("largest error of a value", "largest_value_error", "{:.3f}"),
        ("every greedy action is optimal", "optimal_policy", "{}"),
        ("steps a second, after compilation", "steps_per_second", "{:,.0f}"),
    ):
        if summary.get(name) is not None:
            spread = [summary[f"{name}_{kind}"] for kind in SPREAD.values() if f"{name}_{kind}" in summary]
            table.add_row(label, *[form.format(value) for value in (summary[name], *spread)])
    console.print(table)
    print_place(summary, folder)


def print_seeds(summary, measures, folder):
    """Means and spread of what several seeds measured.

    Args:
        summary: see `seeds.spread`.
        measures: names.
    """
    table = Table(title=f"\n{summary['task']}, {summary['model']}, {len(summary['seeds'])} seeds")
    table.add_column("measure")
    for title in ("mean", *SPREAD):
        table.add_column(title, justify="right")
    for name in measures:
        values = [summary[name]] if summary[name] is None else [summary[name], *[summary[f"{name}_{kind}"] for kind in SPREAD.values()]]
        table.add_row(Text(in_words(name, summary)), *["" if value is None else f"{value:.3f}" for value in values])
    new_console().print(table)
    print_place(summary, folder)


def in_words(name, summary):
    """A measure of a summary, with the label that it counts where it counts one.

    Example:
        >>> in_words("positive_after", {"positive_label": "fresh"})
        'judged fresh after'
    """
    stage = name.removeprefix("positive_")
    return name.replace("_", " ") if stage == name else f"judged {summary.get('positive_label', 'positive')} {stage}"


def print_measures(results):
    """What `ppo-keras evaluate` found, a column for each run."""
    table = Table(title="\nWith 95 % confidence intervals")
    table.add_column("measure")
    for result in results:
        seeds = f", {len(result['seeds'])} seeds" if "seeds" in result else ""
        table.add_column(Text(f"{result['run']}\n{result['stage']}, {result['count']} {result['units']}{seeds}"), justify="right")
    for name, (label, form) in MEASURES.items():
        intervals = [result["measures"].get(name) for result in results]
        if any(intervals):
            table.add_row(label, *["" if interval is None else as_text(interval, form) for interval in intervals])
    new_console().print(table)
    for result in results:
        if result.get("reward_is"):
            new_console().print(Text(f"The reward of {result['run']} is {result['reward_is']}."), soft_wrap=True)
    places = ", ".join(f"{result['run']}/evaluation.json" for result in results)
    new_console().print(f"The numbers are in {places}, the picture is evaluation.png beside them.", soft_wrap=True)


def as_text(interval, form):
    """An interval, a dict, such as "0.53 (0.50 to 0.56)"."""
    estimate, low, high = ("" if x is None else format(x, f"z{form}") for x in (interval["estimate"], interval["low"], interval["high"]))
    return f"{estimate} ({low} to {high})" if low else estimate


def print_comparison(result, show, place):
    """What `ppo-keras compare` found, with so many rows of it."""
    rows = Table(title=f"\nThe same {result['units']}", show_lines=True)
    for title in (result["units"].removesuffix("s"), result["first"], "score", result["second"], "score"):
        rows.add_column(Text(title), justify="right" if title == "score" else "left")
    for row in result["rows"][:show]:
        cells = row["prompt"], row["first"], f"{row['first_score']:z.3f}", row["second"], f"{row['second_score']:z.3f}"
        rows.add_row(*map(Text, cells))
    if show:
        new_console().print(rows)
    for label, name, form in (
        (f"mean score of {result['first']}", "first_mean", ".3f"),
        (f"mean score of {result['second']}", "second_mean", ".3f"),
        ("mean difference", "difference", ".3f"),
        (f"the second wins on this share of {len(result['rows'])} {result['units']} (a tie counts half)", "second_wins", ".1%"),
    ):
        new_console().print(Text(f"{label}: {as_text(result[name], form)}"), soft_wrap=True)
    if result.get("reward_is"):
        new_console().print(Text(f"The score is {result['reward_is']}."), soft_wrap=True)
    new_console().print(Text(f"With 95 % confidence intervals; all rows are in {place}"), soft_wrap=True)


def print_tokens(prompt, response, columns, ended, score=None, reward_is=None):
    """A response of `ppo-keras chat`.

    Args:
        prompt, response: str.
        columns: {title: a value for each token}; the first are strings.
        ended: whether it ended by itself.
        score: of the whole, or None where nothing scores it.
        reward_is: what the score is, in words.
    """
    console = new_console()
    console.print(Text(f"{prompt} … {response.strip()}"), soft_wrap=True)
    table = Table()
    for title in columns:
        table.add_column(title, justify="left" if title == "token" else "right")
    for token, *numbers in zip(*columns.values()):
        table.add_row(Text(token), *[f"{number:z.3f}" for number in numbers])
    console.print(table)
    facts = (
        f"tokens: {len(columns['token'])}, {'ended by itself' if ended else 'cut off'}; log-probability {sum(columns['log-probability']):.3f}, "
        f"KL from the reference {sum(columns['KL']):.3f} nats" + ("" if score is None else f"; score {score:.3f}, {reward_is}")
    )
    console.print(Text(facts), soft_wrap=True)


def print_labels_of(label, names, before, now, value):
    """What a classifier says of one text: its label, and the probabilities `(K,)` of all labels before PPO and now."""
    table = Table()
    for title in ("label", "before PPO", "now"):
        table.add_column(title, justify="left" if title == "label" else "right")
    for name, *shares in zip(names, before, now):
        table.add_row(Text(name), *[f"{share:.3f}" for share in shares])
    new_console().print(Text(label))
    new_console().print(table)
    new_console().print(f"expected reward (the value): {value:.3f}")
