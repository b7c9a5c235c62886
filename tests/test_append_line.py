"""Lines written behind one another: what a killed process left of one is gone, and nothing else."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from lvlm_va.io.files import append_line

LINES = st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8")), max_size=4)


@given(LINES, st.binary(max_size=5).filter(lambda torn: b"\n" not in torn))
def test_whole_lines_stay_and_a_torn_one_goes(lines: list[str], torn: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        for line in lines:
            append_line(path, line)
        with path.open("ab") as file:
            file.write(torn)
        append_line(path, "last")
        assert path.read_bytes() == "".join(f"{line}\n" for line in [*lines, "last"]).encode()
