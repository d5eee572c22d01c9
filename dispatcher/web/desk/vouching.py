"""The door through the newsroom's OpenID provider: out to it, and back with its answer.

What comes back is a link, and opening a link changes nothing here: it shows a form, which a script sends at once.
"""

from __future__ import annotations

from starlette.responses import Response

from dispatcher.errors import DispatcherError, NotFound
from dispatcher.people.oidc import AskLost, NotVouchedFor, Provider, ProviderFailed, sign_in_as
from dispatcher.web.desk.visiting import Visit, next_path

MAX_FIELD = 4_000


async def out(visit: Visit) -> Response:
    """`/desk/oidc`: to the provider. Raises `NotFound` where there is none, `ProviderFailed`."""
    then = next_path(visit.request.query_params.get("next", ""))
    ask = await _provider(visit).begin(then)
    return visit.leave_for(ask.url, ask.sealed)


async def back(visit: Visit) -> Response:
    """`/desk/oidc/back`: with the provider's answer. By GET it only shows a form that brings it here again."""
    provider = _provider(visit)
    asked = visit.request.query_params
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            vouched = await provider.vouched(
                visit.kept_ask,
                code=visit.form.get("code"),
                state=visit.form.get("state"),
                issuer=visit.form.get("iss"),
            )
            done = await sign_in_as(visit.here.database, vouched, browser=visit.browser)
        except (AskLost, NotVouchedFor, ProviderFailed) as error:
            problem = error
        else:
            return visit.let_in(done, next_path(vouched.then))
    elif "error" in asked or not asked.get("code"):
        problem = NotVouchedFor()
    return visit.page(
        "oidc.html",
        status=200 if problem is None else problem.status,
        problem=problem,
        fields={name: asked.get(name, "")[:MAX_FIELD] for name in ("code", "state", "iss")},
        provider=provider.name,
    )


def _provider(visit: Visit) -> Provider:
    provider: Provider | None = visit.request.app.state.provider
    if provider is None:
        raise NotFound("There is no such page.", remedy="Sign in with your password.")
    return provider
