"""What a snapshot's body says, in today's form, whichever Budwood wrote it.

Keys that older ones did not write are filled with what their absence meant: nothing was stated, nothing was asked for.
"""

from collections.abc import Mapping
from typing import Any

SOURCE: Mapping[str, Any] = {
    "weight": 1.0,
    "origin": "",
    "licence": "",
    "licence_verified": "",
    "cleaning": "",
    "labelling": "",
    "slices": [],
    "left_out": [],
}
RULE: Mapping[str, Any] = {"options": {}, "changed": 0, "dropped": 0, "flagged": 0}
"""Its figures are counted again from the rows in any case."""


def in_present_form(body: Mapping[str, Any]) -> dict[str, Any]:
    """Fill what is missing; what is there stays as it is."""
    return {
        "onto": "",
        "lengths": {},
        **body,
        "rules": [{**RULE, **rule} for rule in body["rules"]],
        "sources": [{**SOURCE, **source} for source in body["sources"]],
        "groups": {"by": "", "notes": [], **body.get("groups", {})},
        "settings": {"labels": [], **body.get("settings", {})},
    }
