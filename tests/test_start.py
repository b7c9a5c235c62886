"""Starting is quick: nothing heavy is imported before a command needs it."""

import sys

import pytest

from patience import output_of

HEAVY = ("torch", "scipy", "matplotlib", "transformers", "pandas", "pydantic", "openai", "numpy", "PIL")


@pytest.mark.parametrize("statement", ["import lvlm_va", "import lvlm_va.cli.main", "HELP"])
def test_nothing_heavy_is_imported(statement):
    """torch alone takes five to ten times as long as all that is left."""
    helps = "import lvlm_va.cli.main as m; m.app(['align', '--help'], standalone_mode=False)"
    code = helps if statement == "HELP" else statement
    heavy = [name for name in HEAVY if (statement, name) != ("HELP", "pydantic")]  # typer's own
    code += f"; import sys; print('heavy:', [m for m in {heavy!r} if m in sys.modules])"
    assert output_of([sys.executable, "-c", code]).splitlines()[-1] == "heavy: []"
