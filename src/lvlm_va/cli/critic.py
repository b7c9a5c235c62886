"""`lvlm-va critic`: the commands about critics."""

from typing import Annotated

import typer

from lvlm_va.cli.options import CriticOption, RunFolder, Settings
from lvlm_va.errors import CriticError
from lvlm_va.io.screen import echo

__all__ = ["critic_app"]

critic_app = typer.Typer(no_args_is_help=True, help="Try out critics.")


@critic_app.command("check")
def check(
    critic: CriticOption = "builtin",
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="NAME", help="The critic itself when not given.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Leave with an error below this share of right marks.")
    ] = 0.9,
    images: Annotated[
        int, typer.Option("--images", min=1, max=10_000_000, help="How many a critique is priced for.")
    ] = 256,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many questions this asks.")] = False,
    settings: Settings = None,
) -> None:
    """Will this model do? Images with known answers, before money is spent; and what a critique costs.

    Says whether the endpoint is reached, knows the model, takes images, has room for the answers, keeps to
    the form, names numbered marks rightly, and how long that takes.
    """
    from lvlm_va.config.loading import apply_settings, parse_config
    from lvlm_va.project.critic_check import check_critic

    document = {"critique": {"critic": critic, "judge": judge}}
    config = parse_config(apply_settings(document, settings or []), where="options")
    result = check_critic(config.critique, images=images, threshold=threshold, dry_run=dry_run)
    echo(result.text)
    if result.right_share is not None and result.right_share < threshold:
        raise CriticError(
            f"{critic} names the right mark in {result.right_share:.0%} of cases, below {threshold:.0%}: "
            "its verdicts would mislead; choose another model"
        )


@critic_app.command("join")
def join(run: RunFolder) -> None:
    """Ask some of the questions of a run that another machine began with `lvlm-va critique --share`.

    The run's folder must be one that both machines see. What is answered here is kept there, and the machine
    that began takes it from there, also where this one dies.
    """
    from lvlm_va.io.console import Console
    from lvlm_va.project.joining import join_critique

    echo(join_critique(run, console=Console()))
