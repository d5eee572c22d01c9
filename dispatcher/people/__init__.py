"""The people of the desk: how they come, sign in, stay signed in, change, and go.

Of everything that opens a door only a hash is kept, or what cannot be read without the installation's secret.
`people.oidc` stands beside: only the web process loads what it takes to talk to a sign-in service.
"""

from dispatcher.people.changing import (
    change_password,
    drop_codes,
    end,
    everybody,
    find,
    new_recovery_codes,
    offer_codes,
    set_role,
    turn_codes_off,
    turn_codes_on,
)
from dispatcher.people.codes import Offer
from dispatcher.people.inviting import (
    BadInvitation,
    Invitation,
    Post,
    first_link,
    invitation,
    invitations,
    invite,
    join,
    reset,
    role_of,
    withdraw,
)
from dispatcher.people.passwords import Busy
from dispatcher.people.sessions import (
    ListedSession,
    Person,
    Session,
    SignedIn,
    session,
    sessions,
    sign_out,
    sign_out_everywhere,
    token_hash,
)
from dispatcher.people.signing import CodeRefused, SignInRefused, TooManyTries, pass_code, sign_in

__all__ = [
    "BadInvitation",
    "Busy",
    "CodeRefused",
    "Invitation",
    "ListedSession",
    "Offer",
    "Person",
    "Post",
    "Session",
    "SignInRefused",
    "SignedIn",
    "TooManyTries",
    "change_password",
    "drop_codes",
    "end",
    "everybody",
    "find",
    "first_link",
    "invitation",
    "invitations",
    "invite",
    "join",
    "new_recovery_codes",
    "offer_codes",
    "pass_code",
    "reset",
    "role_of",
    "session",
    "sessions",
    "set_role",
    "sign_in",
    "sign_out",
    "sign_out_everywhere",
    "token_hash",
    "turn_codes_off",
    "turn_codes_on",
    "withdraw",
]
