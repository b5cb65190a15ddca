"""Which releases a request may name though no alias points to them."""

from typing import Any

from .test_demand import ask


def test_only_what_a_gate_has_passed_or_clients_have_had_is_brought_up(nursery: Any) -> None:
    def release(word: str, number: int) -> Any:
        return nursery.release("support", number % 2, note=word, verdict={"verdict": word} if word else None)

    live, rejected, passed, unjudged, former = (
        release(word, number) for number, word in enumerate(("", "REJECT", "PROMOTE", "", "REJECT"))
    )
    for row in (former, nursery.release("support", None, note="between"), live):
        nursery.promote(row)
    with nursery.serving() as server:
        assert ask(server, f"support@{passed.version}").json()["system_fingerprint"] == passed.digest
        assert ask(server, f"support@{former.version}").json()["system_fingerprint"] == former.digest
        for row, words in ((rejected, "Its verdict is REJECT"), (unjudged, "It was never judged by a gate")):
            reply = ask(server, f"support@{row.version}")
            assert (reply.status_code, reply.json()["error"]["code"]) == (422, "release_refused")
            assert words in reply.json()["error"]["message"]
    with nursery.serving(on_demand="any") as server:
        assert ask(server, f"support@{rejected.version}").json()["system_fingerprint"] == rejected.digest
