"""Backends by name, and the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from critique_helpers import critic_judge, explained
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.backends.ground_truth import GroundTruthBackend
from lvlm_va.critique.driver import critique
from lvlm_va.critique.store import Store
from lvlm_va.errors import ConfigError, CriticError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bultin", "did you mean 'builtin'"),
        ("opnai:gpt-4o", "did you mean 'openai:<model>'"),
        ("ground_truth", "did you mean 'ground-truth'"),
        ("gpt-4o", "known are 'builtin', 'ground-truth', 'openai:<model>', 'hf:<model>'"),
        ("openai", "write openai:<model>"),
        ("openai:", "write openai:<model>"),
        ("batch", "not a critic but a way to ask one"),
        ("", "known are"),
    ],
)
def test_an_unknown_critic_names_the_nearest_known(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_backend(name)


def test_an_unknown_option_names_the_nearest_known() -> None:
    with pytest.raises(ConfigError, match="unknown option 'timout'; did you mean 'timeout'"):
        make_backend("openai:gpt-4o", timout=3)
    with pytest.raises(ConfigError, match="unknown option 'timeout'; known are none"):
        make_backend("ground-truth", timeout=3)


@given(
    arrays(np.int16, (6, 6), elements=st.integers(0, 3)),
    arrays(np.bool_, (6, 6)),
)
def test_the_oracle_condemns_exactly_the_segments_that_hold_a_planted_pixel(
    segments: np.ndarray, spurious: np.ndarray
) -> None:
    it = explained(segments=3, spurious=spurious)
    it.segments[:] = segments
    with Store.open(":memory:") as store:
        verdicts = critique([it], critic_judge(GroundTruthBackend()), store)
    expected = {int(j): False for j in np.unique(segments) if j}
    expected |= {int(j): True for j in np.unique(segments[spurious]) if j}
    assert {v.segment: v.spurious for v in verdicts} == expected
    assert {v.author for v in verdicts} <= {"ground-truth"}


def test_the_oracle_needs_a_ground_truth() -> None:
    with Store.open(":memory:") as store, pytest.raises(CriticError, match="image-0 has no such mask"):
        critique([explained(spurious=None)], critic_judge(GroundTruthBackend()), store)


def test_the_oracle_says_that_it_is_one() -> None:
    assert GroundTruthBackend().kind == "oracle"
