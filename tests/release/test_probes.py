"""Golden probes: the choice, and the replay that tells a right server from a wrong one."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budwood.engine.probes import Probe, ProbeSet, largest_difference, read_probes, replay
from budwood.errors import AdapterError, ReleaseError
from budwood.release.probes import LEAST_SPREAD, SEPARATION, Measured, choose_probes


def measured(
    number: int, *, noise: float = 0.001, base: float = 2.0, half: float = 0.5, double: float = 0.4, narrow: float = 0.0
) -> Measured:
    """A prompt whose right ways differ by `noise` and whose wrong models by the other three."""
    reference = (-0.1, -0.2)
    return Measured(
        (number,),
        (7, 8),
        reference,
        {"bfloat16": (-0.1 - narrow, -0.2 - noise), "mixed batch": (-0.1, -0.2 - noise)},
        {name: (-0.1 - value, -0.2) for name, value in (("base", base), ("half", half), ("double", double))},
    )


def test_the_farthest_prompts_are_chosen() -> None:
    chosen = choose_probes([measured(1, half=0.1), measured(2, half=0.3), measured(3, half=0.2)], count=2)
    assert [probe.prompt_ids for probe in chosen.probes] == [(2,), (3,)]
    assert chosen.probes[0].distance_to_half == pytest.approx(0.3)
    assert chosen.probes[0].distance_to_base == pytest.approx(2.0)
    assert chosen.probes[0].distance_to_double == pytest.approx(0.4)
    assert chosen.spread == pytest.approx(0.001)
    assert chosen.spreads == {"bfloat16": pytest.approx(0.001), "mixed batch": pytest.approx(0.001)}
    assert chosen.tolerances == {"float32": pytest.approx(0.003), "bfloat16": pytest.approx(0.003)}
    assert chosen.spread < chosen.tolerance < SEPARATION * chosen.spread


def test_a_noisy_prompt_does_not_cost_the_quiet_ones() -> None:
    """One tolerance serves all: the loud one would raise it above what tells the quiet ones from half scale."""
    loud = measured(1, noise=0.04, half=3.0, double=3.0)
    quiet = [measured(number, half=0.05, double=0.05) for number in (2, 3, 4)]
    chosen = choose_probes([loud, *quiet], count=3)
    assert {probe.prompt_ids for probe in chosen.probes} == {(2,), (3,), (4,)}
    assert chosen.spread == pytest.approx(0.001)


def test_fewer_probes_are_kept_when_no_more_are_good() -> None:
    assert len(choose_probes([measured(1), measured(2, half=0.0)], count=4).probes) == 1


@pytest.mark.parametrize("wrong", ["base", "half", "double"])
def test_an_adapter_that_cannot_be_told_from_a_wrong_one_is_refused(wrong: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        choose_probes([measured(1, **{wrong: 0.009}), measured(2, **{wrong: 0.005})], count=4)
    where = {"base": "the base", "half": "itself at half scale", "double": "itself at double scale"}[wrong]
    assert str(caught.value) == (
        f"No golden probe tells this release from a wrong one: of 2 prompts the best lies 0.009 in log-probability from "
        f"{where}, the numeric spread is 0.001, and 10 times that is needed. In the golden probes.\n"
        "    The adapter hardly changes these answers: train longer or with a higher learning rate, or raise "
        "[release] probe_tokens."
    )


def test_answers_that_are_empty_or_not_finite_are_passed_over() -> None:
    empty = Measured((1,), (), (), {}, {})
    broken = Measured((2,), (7,), (math.nan,), {}, {"base": (-1.0,)})
    assert [probe.prompt_ids for probe in choose_probes([empty, broken, measured(3)], count=4).probes] == [(3,)]
    with pytest.raises(ReleaseError, match="None of 2 candidate prompts gives a finite answer"):
        choose_probes([empty, broken], count=4)


def test_a_plain_base_has_probes_without_distances() -> None:
    plain = Measured((1,), (7, 8), (-0.1, -0.2), {"bfloat16": (-0.1, -0.21)}, {})
    chosen = choose_probes([plain], count=1)
    probe = chosen.probes[0]
    assert (probe.distance_to_base, probe.distance_to_half, probe.distance_to_double) == (None, None, None)
    assert chosen.tolerances == {"float32": pytest.approx(3 * LEAST_SPREAD), "bfloat16": pytest.approx(0.03)}
    assert chosen.tolerance == pytest.approx(0.03)


def test_a_release_that_bfloat16_blurs_can_be_proven_in_float32_alone() -> None:
    chosen = choose_probes([measured(1, narrow=0.06), measured(2, narrow=0.05)], count=2)
    assert len(chosen.probes) == 2
    assert chosen.tolerances == {"float32": pytest.approx(0.003)}
    assert chosen.tolerance == pytest.approx(0.003)
    assert chosen.spreads["bfloat16"] == pytest.approx(0.06)
    result = replay(chosen, lambda prompt, tokens: (-0.1, -0.2), precision="float32")
    assert result.ok
    with pytest.raises(
        AdapterError, match="In bfloat16 nothing tells this release from a wrong one; its probes hold in float32"
    ):
        replay(chosen, lambda prompt, tokens: (-0.1, -0.2), precision="bfloat16")


def test_probes_come_back_from_the_file_as_they_went_in(tmp_path: Path) -> None:
    chosen = choose_probes([measured(1), measured(2)], count=2)
    (tmp_path / "probes.json").write_bytes(chosen.encode())
    assert read_probes(tmp_path / "probes.json") == chosen
    value = json.loads(chosen.encode())
    assert set(value) == {"tolerance", "tolerances", "spread", "spreads", "probes"}
    assert set(value["probes"][0]) == {
        "prompt_ids",
        "token_ids",
        "logprobs",
        "distance_to_base",
        "distance_to_half",
        "distance_to_double",
    }


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"tolerance": 1, "spread": 1, "probes": []}', '{"tolerance": 1, "spread": 1, "probes": [{}]}']
    + [
        json.dumps({"tolerance": value, "spread": 0.1, "probes": [{"prompt_ids": [1], "token_ids": ids, "logprobs": row}]})
        for value, ids, row in (
            (math.inf, [2], [-0.1]),
            (math.nan, [2], [-0.1]),
            (0, [2], [-0.1]),
            (0.1, [2, 3], [-0.1]),
            (0.1, [], []),
        )
    ],
)
def test_probes_that_prove_nothing_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "probes.json").write_text(text)
    with pytest.raises(AdapterError, match="golden probes"):
        read_probes(tmp_path / "probes.json")


PROBES = ProbeSet(0.01, 0.003, (Probe((1,), (2, 3), (-0.5, -1.0)), Probe((4,), (5,), (-2.0,))))


def shifted(by: float, *, only: int | None = None) -> "dict[tuple[int, ...], tuple[float, ...]]":
    return {
        probe.prompt_ids: tuple(value - (by if only in (None, number) else 0.0) for value in probe.logprobs)
        for number, probe in enumerate(PROBES.probes)
    }


def test_a_replay_within_the_tolerance_passes() -> None:
    result = replay(PROBES, lambda prompt, tokens: shifted(0.009)[tuple(prompt)])
    assert result.ok
    assert result.detail == "passed: largest difference 0.009, allowed 0.01"


def test_a_replay_outside_names_the_probe() -> None:
    result = replay(PROBES, lambda prompt, tokens: shifted(0.2, only=1)[tuple(prompt)])
    assert (result.ok, result.failed) == (False, (1,))
    assert result.detail == "failed at probe 2: largest difference 0.2, allowed 0.01"


@pytest.mark.parametrize("row", [(), (-0.5,), (math.nan, math.nan), (math.inf, 0.0), (-0.5, -1.0, -1.0)])
def test_a_replay_that_is_not_comparable_fails(row: Sequence[float]) -> None:
    result = replay(ProbeSet(1e9, 0.1, PROBES.probes[:1]), lambda prompt, tokens: row)
    assert not result.ok
    assert result.worst == math.inf


ROWS = st.lists(st.floats(-50, 0), min_size=1, max_size=5)


@given(one=ROWS, noise=st.floats(0, 1))
def test_the_difference_is_the_largest_one(one: list[float], noise: float) -> None:
    other = [value - noise * index / len(one) for index, value in enumerate(one)]
    expected = max(abs(a - b) for a, b in zip(one, other, strict=True))
    assert largest_difference(one, other) == largest_difference(other, one) == expected


@given(st.lists(st.tuples(st.floats(0, 0.1), st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=12), st.integers(1, 5))
def test_whatever_is_chosen_is_ten_spreads_from_every_wrong_model(
    figures: list[tuple[float, float, float]], count: int
) -> None:
    items = [measured(n, noise=noise, half=half, double=double) for n, (noise, half, double) in enumerate(figures)]
    try:
        chosen = choose_probes(items, count=count)
    except ReleaseError:
        assert all(item.distance < SEPARATION * item.spread(["mixed batch"]) for item in items)
        return
    assert 1 <= len(chosen.probes) <= count
    for probe in chosen.probes:
        distances = [probe.distance_to_base, probe.distance_to_half, probe.distance_to_double]
        assert all(distance is not None and distance >= SEPARATION * chosen.spread for distance in distances)
    assert max(chosen.tolerances.values()) == chosen.tolerance < SEPARATION * chosen.spread
