"""What leads set, what the installation is set to, and the tokens of programs that call the API."""

from __future__ import annotations

import re

from starlette.responses import Response

from dispatcher import access, approval
from dispatcher.approval import Rule
from dispatcher.config import PUSH_SERVICES, RelaySettings, Settings
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound
from dispatcher.model import InDoubt
from dispatcher.roles import Scope
from dispatcher.web.desk.visiting import Visit, done_word

DONE = {"rule": "Saved. It counts for whatever is sent from now on.", "revoked": "The token is revoked, from now on."}
#: What a scope is good for, for those who give it.
SCOPES = {
    Scope.READ: "look at stories and blasts",
    Scope.PUBLISH: "create and change stories, publish updates",
    Scope.STEER: "pause, resume, cancel and retry blasts",
}
IN_DOUBT = {
    InDoubt.RESEND: "It is sent again: nobody is lost, somebody may get it twice.",
    InDoubt.HOLD: "It is left to a person: nobody gets it twice, somebody may be lost.",
}
_NUMBER = re.compile(r"[0-9]{1,12}")


async def settings(visit: Visit) -> Response:
    """`/desk/settings`: when a second person has to approve; and what the environment sets, without its secrets."""
    problem: DispatcherError | None = None
    async with visit.here.database.transaction() as tx:
        rule = await approval.read(tx)
    if visit.is_post:
        try:
            await approval.write(visit.here.database, _rule(visit), by=visit.person.email)
        except Invalid as error:
            problem = error
        else:
            return visit.lead_to("/desk/settings", done="rule")
    return visit.page(
        "settings.html",
        status=200 if problem is None else problem.status,
        at="settings",
        rule=rule,
        over=visit.form.get("over")[:20] if problem is not None else "" if rule.over is None else str(rule.over),
        facts=_facts(visit.here.settings),
        problem=problem,
        done=done_word(visit, DONE),
    )


def _rule(visit: Visit) -> Rule:
    """The rule that was filled in. Raises `Invalid` for a number of readers that is none."""
    form = visit.form
    over = re.sub(r"[\s,.'’]", "", form.get("over"))
    if form.get("is_over") and not _NUMBER.fullmatch(over):
        raise Invalid("That is no number of readers.", remedy="Write one such as 10000.", field="over")
    return Rule(
        breaking=bool(form.get("breaking")), over=int(over) if form.get("is_over") else None, all=bool(form.get("all"))
    )


def _facts(settings: Settings) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """What is set, in groups: a name, the value for people to see, and the variable. No secret is among them."""
    newsroom = settings.newsroom
    return [
        (
            "The newsroom",
            [
                ("Name", newsroom.name, "NEWSROOM"),
                ("Postal address", newsroom.address, "NEWSROOM_ADDRESS"),
                ("Language", newsroom.language, "NEWSROOM_LANGUAGE"),
                ("Clock", newsroom.timezone, "TIMEZONE"),
                ("Logo", newsroom.logo.name if newsroom.logo else "", "NEWSROOM_LOGO"),
                ("Colours", " ".join(newsroom.colours or ()), "NEWSROOM_COLOUR"),
            ],
        ),
        (
            "Pages and mail",
            [
                ("Readers reach the pages at", settings.public_url, "PUBLIC_URL"),
                ("Mail comes from", str(settings.mail_from), "MAIL_FROM"),
                *((f"Relay {relay.name}", _relay(relay), "SMTP_URL") for relay in settings.relays),
                ("A message without an answer", IN_DOUBT[settings.in_doubt], "IN_DOUBT"),
            ],
        ),
        (
            "Doors",
            [
                ("People can sign in with", settings.oidc.name if settings.oidc else "", "OIDC_ISSUER"),
                ("Push services besides the usual ones", _others(settings), "PUSH_SERVICES"),
                ("Sites that may show our form", " ".join(settings.embed_origins), "EMBED_ORIGINS"),
                ("Proxies that are believed", " ".join(map(str, settings.trusted_proxies)), "TRUSTED_PROXIES"),
                ("Asks a minute before forms want a sum", f"{settings.brake:,}", "BRAKE"),
            ],
        ),
    ]


def _relay(relay: RelaySettings) -> str:
    tls = "TLS from the start" if relay.tls else {"require": "TLS or nothing", "never": "no TLS"}.get(relay.starttls)
    said = [tls or "TLS where offered", f"{relay.lanes} {'connection' if relay.lanes == 1 else 'connections'} a worker"]
    said += ["signs in"] if relay.username else []
    said += [f"at most {relay.rate:g} a second"] if relay.rate else []
    said += ["only while no other takes mail"] if not relay.weight else []
    return ", ".join(said)


def _others(settings: Settings) -> str:
    return " ".join(each for each in settings.push_services if each not in PUSH_SERVICES)


async def tokens(visit: Visit) -> Response:
    """`/desk/tokens`: what may call the API. A new token is shown once."""
    problem: DispatcherError | None = None
    shown, name = "", visit.form.get("name").strip()
    if visit.is_post:
        try:
            if visit.form.get("do") == "revoke":
                await access.revoke_token(visit.here.database, name, by=visit.person.email)
                return visit.lead_to("/desk/tokens", done="revoked")
            shown = await _create(visit, name)
        except (Invalid, Conflict, NotFound) as error:
            problem = error
    found = await access.tokens(visit.here.database)
    return visit.page(
        "tokens.html",
        status=200 if problem is None else problem.status,
        at="settings",
        live=[each for each in found if each["revoked_at"] is None],
        revoked=[each for each in found if each["revoked_at"] is not None],
        scopes=SCOPES,
        chosen=_chosen(visit),
        problem=problem,
        name=name[:80],
        shown=shown,
        done=done_word(visit, DONE),
    )


async def _create(visit: Visit, name: str) -> str:
    if visit.form.get("do") != "create":
        raise Invalid("This form does not say what to do.", remedy="Reload the page, and try again.", field="do")
    return await access.create_token(visit.here.database, name, _chosen(visit), by=visit.person.email)


def _chosen(visit: Visit) -> list[Scope]:
    return [scope for scope in Scope if visit.form.get(f"scope-{scope}")]
