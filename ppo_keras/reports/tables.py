"""What a command prints at its end."""

import itertools

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ppo_keras.reports.measures import MEASURES

ENDLESS = 100_000  # columns: no line is as long
SPREAD = {"standard deviation": "std", "least": "min", "most": "max"}  # column: what `seeds.spread` calls it


class PlainConsole(Console):
    """A console to which a text is what it says: `[x]` is no markup, `:x:` no picture. Where nobody reads on, it says so."""

    def __init__(self, **settings):
        super().__init__(force_jupyter=False, markup=False, emoji=False, **settings)  # in a notebook, `display` would go past a redirected stdout

    def on_broken_pipe(self):
        raise  # the `BrokenPipeError` that Rich is about to turn into an exit code of its own


def new_console():
    """Where a command prints. A terminal and a notebook have a width, to which tables are wrapped; a pipe and a file have none."""
    console = PlainConsole()
    return console if console.is_terminal or Console().is_jupyter else PlainConsole(width=ENDLESS)


def new_table(title, *columns, **settings):
    """A table of columns made by `texts` and `numbers`. What is wider than its column is wrapped, never cut."""
    table = Table(title=title, **settings)
    for name, side in columns:
        table.add_column(name, justify=side, overflow="fold")
    return table


def texts(*names):
    """Columns that begin on the left."""
    return [(name, "left") for name in names]


def numbers(*names):
    """Columns that end on the right."""
    return [(name, "right") for name in names]


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
    caption = f"The reward is {reward_is}."
    table = new_table("\nBefore and after PPO, on prompts held out", *texts("measure"), *numbers("before", "after"), caption=caption)
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
            table.add_row(label, *[form.format(value) for value in values])
    console.print(table)
    samples = new_table("The same prompts", *texts("prompt", "before", "after"), show_lines=True)
    for row in list(zip(before.prompts, before.responses, after.responses))[:pairs]:
        samples.add_row(*row)
    console.print(samples)
    print_place(summary, folder)


def print_answers(split, before, after, measures, summary, folder, rows=6):
    """Measures before and after PPO, greedy and sampled, then a few prompts with the greedy responses of both."""
    table = new_table(f"\nBefore and after PPO, on {len(split.texts)} prompts held out", *texts("measure"), *numbers("before", "after"))
    for name in [name.removesuffix("_before") for name in measures if name.endswith("_before")]:
        table.add_row(name.replace("_", " "), *[f"{measures[f'{name}_{stage}']:.3f}" for stage in ("before", "after")])
    samples = new_table("Greedy responses", *texts("prompt", "reference", "before", "after"), show_lines=True)
    for prompt, references, *responses in list(zip(split.texts, split.references, before, after))[:rows]:
        samples.add_row(prompt, references[0], *responses)
    new_console().print(table)
    new_console().print(samples)
    print_place(summary, folder)


def print_labels(measures, summary, folder):
    """Accuracy, macro F1 and cost of every way to choose a label."""
    table = new_table(f"\nLabels of {summary['test_texts']} texts held out", *texts("labels chosen by"), *numbers("accuracy", "macro F1", "cost"))
    names = {
        "supervised": "cross-entropy, the most probable",
        "supervised_with_costs": "cross-entropy, the least expected cost",
        "ppo": "PPO",
        "majority": "always the most frequent",
        "one_label": "always the cheapest",
    }
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
    columns = numbers("mean", *SPREAD) if several else numbers("value")
    table = new_table(f"\n{summary['task']}, {summary['model']}, {summary['environment_steps']:,} steps", *texts("measure"), *columns)
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
    table = new_table(f"\n{summary['task']}, {summary['model']}, {len(summary['seeds'])} seeds", *texts("measure"), *numbers("mean", *SPREAD))
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
    seeds = lambda result: f", {len(result['seeds'])} seeds" if "seeds" in result else ""
    columns = [f"{result['run']}\n{result['stage']}, {result['count']} {result['units']}{seeds(result)}" for result in results]
    table = new_table("\nWith 95 % confidence intervals", *texts("measure"), *numbers(*columns))
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
    columns = texts(result["units"].removesuffix("s"), result["first"]), numbers("score"), texts(result["second"]), numbers("score")
    rows = new_table(f"\nThe same {result['units']}", *itertools.chain(*columns), show_lines=True)
    for row in result["rows"][:show]:
        rows.add_row(row["prompt"], row["first"], f"{row['first_score']:z.3f}", row["second"], f"{row['second_score']:z.3f}")
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


def print_memory(what, phases, totals, places):
    """What `ppo-keras bench memory` found.

    Args:
        what: the model and the work, in words.
        phases: {phase: {part: bytes}}, on this machine.
        totals: {phase: bytes}.
        places: (name, bytes that it has, bytes that are needed there, the largest batch that fits) of this machine and of each card.
    """
    console, gigabytes = new_console(), lambda count: f"{count / 1e9:.3f}" if count else ""
    table = new_table(f"\nMemory of an iteration, in GB\n{what}", *texts("part"), *numbers(*phases))
    for part in dict.fromkeys(part for parts in phases.values() for part in parts):
        if any(parts.get(part) for parts in phases.values()):
            table.add_row(part, *[gigabytes(parts.get(part, 0)) for parts in phases.values()])
    table.add_section()
    table.add_row("together", *[gigabytes(total) for total in totals.values()])
    console.print(table)
    cards = new_table("Where it fits", *texts("memory of"), *numbers("GB", "needed"), *texts("fits"), *numbers("largest batch"))
    for name, memory, needed, batch in places:
        cards.add_row(name, f"{memory / 1e9:.1f}", f"{needed / 1e9:.2f}", "yes" if needed <= memory else "no", f"{batch:,}" if batch else "none")
    console.print(cards)
    most = max(totals, key=totals.get)
    console.print(f"Most is needed in the phase {most}: {totals[most] / 1e9:.2f} GB, an estimate that is right within a quarter.", soft_wrap=True)


def print_growth(found):
    """What `ppo-keras bench scaling` found.

    Args:
        found: {name of a size: what has `sizes`, `seconds`, and the exponents `exponent` of the time and `expected` of the operations}.
    """
    console = new_console()
    for name, one in found.items():
        table = new_table(f"\nAn iteration by {name}", *numbers(name, "seconds", "times as long"))
        for size, seconds in zip(one.sizes, one.seconds):
            table.add_row(f"{size:,}", f"{seconds:.4f}", f"{seconds / one.seconds[0]:.2f}")
        console.print(table)
        console.print(f"seconds ~ {name}^{one.exponent:.2f}; the operations grow with {name}^{one.expected:.2f}", soft_wrap=True)


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
    table = new_table(None, *texts("token"), *numbers(*[title for title in columns if title != "token"]))
    for token, *measures in zip(*columns.values()):
        table.add_row(token, *[f"{number:z.3f}" for number in measures])
    console.print(table)
    facts = (
        f"tokens: {len(columns['token'])}, {'ended by itself' if ended else 'cut off'}; log-probability {sum(columns['log-probability']):.3f}, "
        f"KL from the reference {sum(columns['KL']):.3f} nats" + ("" if score is None else f"; score {score:.3f}, {reward_is}")
    )
    console.print(Text(facts), soft_wrap=True)


def print_labels_of(label, names, before, now, value):
    """What a classifier says of one text: its label, and the probabilities `(K,)` of all labels before PPO and now."""
    table = new_table(None, *texts("label"), *numbers("before PPO", "now"))
    for name, *shares in zip(names, before, now):
        table.add_row(name, *[f"{share:.3f}" for share in shares])
    new_console().print(Text(label), soft_wrap=True)
    new_console().print(table)
    new_console().print(f"expected reward (the value): {value:.3f}")
