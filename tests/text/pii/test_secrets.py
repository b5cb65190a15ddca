"""Secrets: by their issuer's mark, or by a name that says so; what only reads like one stays."""

import pytest

from budwood.text.pii import redact

LONG = "a1B2c3D4e5" * 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"export AWS_SECRET_ACCESS_KEY={LONG[:40]}", "export AWS_SECRET_ACCESS_KEY=[SECRET]"),
        ("password: hunter2", "password: [SECRET]"),
        ("My password is Tr0ub4dor&3.", "My password is [SECRET]."),
        ('{"api_key": "' + LONG[:24] + '"}', '{"api_key": "[SECRET]"}'),
        ("postgres://admin:s3cr3tpw@db.example.org/x", "postgres://admin:[SECRET]@db.example.org/x"),
        (f"Authorization: Bearer {LONG[:32]}", "Authorization: Bearer [SECRET]"),
        (f"sk-ant-api03-{LONG[:60]}", "[SECRET]"),
        (f"npm_{LONG[:36]}", "[SECRET]"),
        (f"glpat-{LONG[:20]} and hf_{LONG[:34]}", "[SECRET] and [SECRET]"),
    ],
)
def test_secrets_are_redacted(text: str, expected: str) -> None:
    assert redact(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "The password is required.",
        "password = os.environ['DB_PASSWORD']",
        "api_key: <your-api-key>",
        "token: version2",
        "PASSWORD=${SECRET}",
        "password: ********",
        "a token is a word or a piece of one",
        "secret: nobody knows",
        "the key is under the mat",
        "password=changeme",
        "sk-learn-is-a-library-with-a-long-name",
        "https://example.org:8080/a@b",
        "Bearer of bad news",
        "primary key: customer_id",
    ],
)
def test_what_only_reads_like_one_stays(text: str) -> None:
    assert redact(text).text == text
