"""What a reader knows a browser by: `Firefox on Android`, and nothing that would tell one from another."""

from __future__ import annotations

#: The first that a User-Agent names, in an order in which those that pretend to be others come first.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("YaBrowser/", "Yandex Browser"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_PLACES = (
    ("Android", "Android"),
    ("iPhone", "an iPhone"),
    ("iPad", "an iPad"),
    ("Windows", "Windows"),
    ("CrOS", "a Chromebook"),
    ("Macintosh", "a Mac"),
    ("Linux", "Linux"),
)


def browser_name(user_agent: str) -> str:
    """A short name from a User-Agent header; empty if it names nothing that we know."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    place = next((name for mark, name in _PLACES if mark in user_agent), "")
    return f"{browser} on {place}" if browser and place else browser or place
