"""Who a client is decides how much it may ask: no header of its own changes that."""

from __future__ import annotations

from urllib.parse import urlencode

from tests.api.serving import Site


def ask(site: Site, number: int, *forwarded_for: str) -> int:
    """Send the form with so many X-Forwarded-For lines, as they are."""
    lines = [("X-Forwarded-For", each) for each in forwarded_for]
    content = urlencode({"email": f"ada{number}@mail.example", "cadence": "every", "timezone": "UTC"})
    headers = [("Content-Type", "application/x-www-form-urlencoded"), *lines]
    with site.browser() as browser:
        return browser.post("/s/tarrow-flood/follow", content=content, headers=headers).status_code


def test_a_line_that_a_client_wrote_is_not_believed_before_the_one_of_the_proxy(site: Site) -> None:
    """S3: some proxies add a line of their own and leave the client's where it is (RFC 9110 §5.3: one list)."""
    site.create_story()
    client = site.somewhere()
    answers = [ask(site, number, f"203.0.113.{number}", client) for number in range(22)]

    assert answers == [303] * 20 + [429] * 2
