"""A job that was given its snapshot works on that one, if it is one of its recipe."""

from dataclasses import replace

import pytest

from budwood.errors import DataError, StoreError
from budwood.pipeline.known import prepared

from .conftest import Desk


def test_a_given_snapshot_is_taken_instead_of_preparing(desk: Desk) -> None:
    snapshot = desk.snapshot(train=[1], body={"name": "support"})
    job = replace(desk.job, snapshot=snapshot[:12])
    assert prepared(job) == snapshot
    assert prepared(replace(desk.job, snapshot=f"{snapshot[:12]}…")) == snapshot


def test_a_given_snapshot_has_to_be_one_of_this_recipe(desk: Desk) -> None:
    other = desk.snapshot(train=[1], body={"name": "billing"})
    with pytest.raises(DataError) as error:
        prepared(replace(desk.job, snapshot=other))
    assert error.value.what == f"Snapshot {other[:12]}… was prepared for 'billing', the recipe is 'support'."
    release = desk.release(other)
    with pytest.raises(DataError) as error:
        prepared(replace(desk.job, snapshot=release))
    # A release stands for what it was trained on, as everywhere.
    assert error.value.what == f"Snapshot {other[:12]}… was prepared for 'billing', the recipe is 'support'."


def test_a_given_snapshot_may_be_named_as_everywhere(desk: Desk) -> None:
    snapshot = desk.snapshot(train=[1], body={"name": "support"})
    assert prepared(replace(desk.job, snapshot="support")) == snapshot
    with pytest.raises(StoreError, match=r"No snapshot is called 'nothing'. Names: support"):
        prepared(replace(desk.job, snapshot="nothing"))
