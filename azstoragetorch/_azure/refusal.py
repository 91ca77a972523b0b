"""Say why the service refused a credential, as far as that can be told from here, without showing it.

Its 401 and 403 name no reason, or one of a dozen reasons in a word. But a SAS says what it allows and until when, and
the answer says what time it is at the service.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from azstoragetorch._azure.advice import ADVICE, advice_for_token
from azstoragetorch._azure.credentials import Authentication, Proof
from azstoragetorch._azure.errors import Failure, answered
from azstoragetorch._values.sas import Need, objections, sas_fields, shown_fields, shown_span
from azstoragetorch.exceptions import BlobAccessError

__all__ = ["explained"]

SKEW = timedelta(minutes=5)
"""Clocks further apart than this are worth a word: less is common, and too little for most credentials to fail."""

_NAMES: dict[Proof, str] = {
    "url": "the SAS in the URL",
    "sas": "the SAS of the AzureSasCredential",
    "key": "the SAS made from the account key",
}

_FITS = (
    "fits this request, so its signature does not: it was made for another blob, container or account, its key or "
    "stored access policy has changed since, or it was changed when it was copied"
)

_OTHERWISE: dict[Proof, str] = {
    "url": _FITS,
    "sas": _FITS,
    "key": "fits this request, so the key does not: it is wrong, was renewed, or belongs to another account",
    "token": "the token was not accepted; is it of the tenant that the account belongs to?",
}


async def explained(failure: Failure, authentication: Authentication, need: Need) -> Failure:
    """Return ``failure`` with the reason in its text if it is a refused credential, else as it is."""
    status, code = failure.facts.get("status_code"), failure.facts.get("error_code")
    if failure.type is not BlobAccessError or status is None:
        return failure
    ours = failure.facts.get("request_id") is not None
    here = datetime.now(UTC)
    now = failure.sent_at or here
    if authentication.kind == "none":
        reason = "no credential was sent; remove credential=False, or add a SAS to the URL"
    elif authentication.kind == "token":
        reason = advice_for_token(str(code)) or (_OTHERWISE["token"] if ours else "a token was sent")
    else:
        reason = _of_sas(authentication.kind, sas_fields(await authentication.query()), need, now, str(code))
    if abs(now - here) > SKEW:
        order = "behind" if now > here else "ahead of"
        reason += f". This machine's clock is {shown_span(now - here)} {order} the service's"
    if ours:
        return replace(failure, text=f"access was refused ({answered(status, code)}): {reason}")
    text = f"access was refused (the answer was {status}{f' {code}' if code else ''})"
    who = "without an x-ms-request-id, so a proxy or firewall may have sent it, and not the service"
    return replace(failure, text=f"{text} {who}; {reason}")


def _of_sas(kind: Proof, fields: dict[str, str], need: Need, now: datetime, code: str) -> str:
    found = list(objections(fields, need, now))
    if found:
        again = "" if kind == "key" else "; make a new one"  # of a key we do
        return f"{_NAMES[kind]} {'; it '.join(found)}{again}"
    shown = shown_fields(fields)
    sas = f"{_NAMES[kind]}{f' ({shown})' if shown else ''}"
    limits = [f"{name}=" for name in ("sip", "si", "sdd") if name in fields]
    also = f". It has also {' and '.join(limits)}, which cannot be checked here" if limits else ""
    if code == "AuthenticationFailed":
        return f"{sas} {_OTHERWISE[kind]}{also}"
    advice = f"{ADVICE[code]}; " if code in ADVICE else ""
    return f"{advice}as far as its fields tell, {sas} fits this request{also}"
