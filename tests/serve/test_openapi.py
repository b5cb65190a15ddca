"""Requests made from the OpenAPI document, wrong ones among them: each is answered, none with an error of ours."""

from typing import Any

import httpx
import pytest

from budwood.serve.api.entrance import OPEN, scope_of

PATIENCE_S = 60.0
CALMLY = ("/v1/chat/completions", "/v1/completions")


def test_the_document_names_every_route_and_the_fields_that_are_checked(garden: Any) -> None:
    document = httpx.get(f"{garden[1].url}/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models/{model}", "/admin/promote"} <= set(document["paths"])
    routes = {route.path.replace("{name:path}", "{model}") for route in garden[1]._http.config.app.routes}
    assert routes == set(document["paths"])
    assert {path for path in routes if scope_of(path) is None} == set(OPEN)
    chat = document["components"]["schemas"]["ChatRequest"]
    assert {"model", "messages", "logit_bias", "min_p"} <= set(chat["properties"])
    assert chat["additionalProperties"] is False


@pytest.mark.slow
def test_no_request_made_from_the_document_breaks_the_server(garden: Any) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    nursery, server = garden
    token = nursery.token("fuzz", "inference", "metrics", "admin")
    server._parts.book.refresh()
    headers = {"authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=headers)
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # a document with a fault in it raises here

        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @given(operation.as_strategy())
        def ask(case: Any) -> None:
            if isinstance(case.body, dict) and case.path in CALMLY:
                # Else nearly every request ends at the name of the model.
                case.body["model"] = "support"
                case.body["max_tokens"] = 2
            reply = case.call(base_url=server.url, headers=headers, timeout=PATIENCE_S)
            assert reply.status_code < 500, (case.as_curl_command(), reply.text)
            assert reply.status_code < 400 or set(reply.json()) == {"error"}

        ask()
    assert httpx.get(f"{server.url}/health").status_code == 200
