"""`lvlm-va review`: a review by somebody without an account here, as a page that is sent."""

from pathlib import Path
from typing import Annotated

import typer

from lvlm_va.cli.options import RunFolder
from lvlm_va.io.screen import echo

__all__ = ["review_app"]

review_app = typer.Typer(no_args_is_help=True, help="Let an expert elsewhere correct the verdicts.")


@review_app.command("export")
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new HTML file.")] = Path(
        "review.html"
    ),
    images: Annotated[int, typer.Option("--images", min=1, help="How many, the most doubtful first.")] = 50,
) -> None:
    """Write one HTML file with images and verdicts, for an expert to correct; it loads and sends nothing.

    What comes back is a JSON file for `lvlm-va review import`.
    """
    import time

    from lvlm_va.errors import ConfigError
    from lvlm_va.io.console import Console
    from lvlm_va.io.files import write_atomically
    from lvlm_va.run.directory import disk_error
    from lvlm_va.studio.reading import reading_of
    from lvlm_va.studio.review_file import review_file
    from lvlm_va.studio.review_pages import queue_of
    from lvlm_va.studio.subject import open_subject

    subject = open_subject(1, run)
    if out.exists():
        raise ConfigError(f"{out}: is there already; choose another --out, or move it away")
    reading, console = reading_of(subject), Console()
    reading.start()
    with console.stage("Comparing like segments"):
        while not (reading.compared or reading.problem):
            console.progress(reading.done, reading.total)
            time.sleep(0.1)
    chosen = queue_of(subject)[:images]
    content = review_file(subject, chosen)
    try:
        write_atomically(out, content)
    except OSError as error:
        raise disk_error(out, error) from None
    echo(f"{len(chosen)} images, {len(content) / 1e6:.1f} MB: {out}")
    echo(f"Send it; take what comes back with: lvlm-va review import {run} FILE.json")


@review_app.command("import")
def take(
    run: RunFolder,
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS.json...", help="What came back.")],
) -> None:
    """Take the answers into verdicts.csv and its history, signed by who gave them.

    What was changed here since the page was made stays, and is named. Taken twice, a file changes nothing.
    """
    from lvlm_va.errors import RunError
    from lvlm_va.studio.review_file import take_answers
    from lvlm_va.studio.subject import open_subject

    subject = open_subject(1, run)
    for path in answers:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror})") from None
        echo(str(take_answers(subject, content, path)))
