"""The application that the commands join, and how they end in an error."""

import os

import typer
from rich.console import Console
from rich.markup import escape

app = typer.Typer(
    name="hrcam",
    help="Shows where a CNN looks in a medical image, and scores it against masks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.callback()
def main() -> None:
    """Shows where a CNN looks in a medical image, and scores it against masks."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def failure(error: Exception) -> typer.Exit:
    """Prints an error without a traceback and returns the exit to raise."""
    Console(stderr=True).print(
        f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True
    )
    return typer.Exit(code=1)
