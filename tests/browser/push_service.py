"""A stand-in for the push service that a browser without a head does not have."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/a-browser"

STAND_IN = """(answer, permission, subscription) => {
  const kept = () => sessionStorage.getItem("subscribed");
  const made = (key) => ({
    endpoint: subscription.endpoint, options: { applicationServerKey: key },
    toJSON: () => subscription,
    unsubscribe: async () => { sessionStorage.removeItem("subscribed"); return true; },
  });
  PushManager.prototype.getSubscription = async () =>
    kept() ? made(Uint8Array.from(JSON.parse(kept())).buffer) : null;
  PushManager.prototype.subscribe = (options) => {
    if (answer === "never") return new Promise(() => {});
    const refuse = (name) => Promise.reject(new DOMException("no", name));
    if (answer !== "subscribed") return refuse(answer);
    if (!options.userVisibleOnly) return refuse("NotAllowedError");
    if (options.applicationServerKey.length !== 65) return refuse("InvalidAccessError");
    sessionStorage.setItem("subscribed", JSON.stringify([...options.applicationServerKey]));
    return Promise.resolve(made(options.applicationServerKey.buffer));
  };
  window.asked = 0;
  const ask = Notification.requestPermission.bind(Notification);
  Notification.requestPermission = () => {
    window.asked += 1;
    return permission ? Promise.resolve(permission) : ask();
  };
  if (!permission) return;
  Object.defineProperty(Notification, "permission", { get: () => window.asked ? permission : "default" });
}"""


def stand_in(
    *, answer: str = "subscribed", permission: str = "", subscription: Mapping[str, object] | None = None
) -> str:
    """A script that answers for the browser's push service, which no browser without a head has.

    `answer` may also be "never" or the name of a DOMException. `subscription` is what `PushSubscription.toJSON()`
    gives; without it that of a browser which nobody can push to.
    """
    return f"({STAND_IN})(...{json.dumps([answer, permission, subscription or _made_up()])});"


def _made_up() -> dict[str, object]:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    keys = {
        "p256dh": _text(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)),
        "auth": _text(b"sixteen bytes it"),
    }
    return {"endpoint": ENDPOINT, "expirationTime": None, "keys": keys}


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
