"""What a command prints at its end."""

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_evaluations(before, after, summary, folder, pairs=5):
    """The measures of two `Evaluation`s side by side, then a few responses of each to the same prompts."""
    console = Console()
    table = Table(title="\nBefore and after PPO, on prompts held out")
    table.add_column("measure")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    rows = (
        ("mean score (the reward)", "reward", "{:.3f}"),
        ("judged positive", "positive", "{:.1%}"),
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
    samples = Table(title="The same prompts", show_lines=True)
    for title in ("prompt", "before", "after"):
        samples.add_column(title)
    for row in list(zip(before.prompts, before.responses, after.responses))[:pairs]:
        samples.add_row(*[Text(cell) for cell in row])
    console.print(samples)
    console.print(
        f"{summary['seconds']:.0f} s. Everything is in {folder}; see it with: tensorboard --logdir {folder.parent}",
        soft_wrap=True,
    )
