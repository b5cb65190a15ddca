"""Keys from the C kernel are those that Python's own normalisation and BLAKE2b give."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.identity import Digest
from budwood.native.build import Missing
from budwood.prepare.keys import keys_of
from budwood.prepare.keys.find import kernel
from budwood.prepare.row import Message, Origin, Row

ASCII = st.text(st.characters(max_codepoint=127), max_size=300) | st.text("aZ \t\n\r\v\f\x1c\x1f\x00é", max_size=12)
CALL = {"id": "c", "type": "function", "function": {"name": "find", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "find"}}
MESSAGES = st.builds(
    Message,
    st.sampled_from(["system", "user", "user", "user", "assistant", "tool"]),
    ASCII,
    st.booleans(),
    st.sampled_from([(), (), (), (CALL,)]),
)
ROWS = st.builds(
    lambda messages, tools: Row("0" * 16, Origin("a", Digest("a" * 64), 1), tuple(messages), {}, 1.0, "auto", tools=tools),
    st.lists(MESSAGES, min_size=2, max_size=2) | st.lists(MESSAGES, min_size=1, max_size=4),
    st.sampled_from([(), (), (), (TOOL,)]),
)


@pytest.fixture
def native() -> ctypes.CDLL:
    found = kernel()
    if isinstance(found, Missing):
        pytest.skip(f"no C kernel on this machine: {found.reason}")
    return found


@pytest.mark.usefixtures("native")
@given(st.lists(ROWS, max_size=5), st.sampled_from([0, 1, -7, 10**70]))
@settings(max_examples=150, deadline=None)
def test_kernel_and_python_give_the_same_keys(rows: list[Row], seed: int) -> None:
    ours, theirs = keys_of(rows, seed), keys_of(rows, seed, native=False)
    assert ours.turns == theirs.turns
    assert ours.keys.tobytes() == theirs.keys.tobytes()


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 129, 255, 256, 257, 1000])
def test_texts_that_end_at_the_edge_of_a_block(size: int) -> None:
    messages = (Message("user", "q" * size), Message("assistant", "A" * size))
    rows = [Row("0" * 16, Origin("a", Digest("a" * 64), 1), messages, {}, 1.0, "auto")]
    assert keys_of(rows, 3).keys.tobytes() == keys_of(rows, 3, native=False).keys.tobytes()
