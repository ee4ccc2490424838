"""HTTP for sinks: credentials from the address, and which answers are worth another try."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import requests

from ssrl.errors import UserError
from ssrl.watch.sinks.base import SinkAway, SinkRefused

TIMEOUT_SECONDS = (5, 15)  # to connect, to answer
WORTH_ANOTHER_TRY = {401, 403, 404, 408, 425, 429}  # a token or a receiver that is about to be put right


class HttpClient:
    """Sends JSON. The user name and password of the address are for basic authentication; a password alone is a bearer
    token.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        try:
            place = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
        except ValueError as error:
            raise UserError(f"{address} is not an address such as https://host:8080/path: {error}") from error
        if not parts.hostname:
            raise UserError(f"{address} names no host; an address is such as https://host:8080/path")
        self.url = urlunsplit(parts._replace(netloc=str(place)))
        self._session = requests.Session()
        self._session.trust_env = False  # no credentials from ~/.netrc
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if user:
            self._session.auth = (user, password)
        elif password:
            self._session.headers["Authorization"] = f"Bearer {password}"

    def send(self, method: str, url: str, body: dict[str, Any], key: str) -> requests.Response:
        """Raises SinkAway or SinkRefused for all but success; the message has no address in it."""
        try:
            response = self._session.request(
                method,
                url,
                json=body,
                headers={"Idempotency-Key": key},
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise SinkAway(_describe(error)) from error
        if response.ok and not response.is_redirect:
            return response
        reason = f"it answers {response.status_code} {response.reason or ''}".rstrip()
        if response.status_code in (401, 403):
            reason += ": check the user name, password or token"
        if response.status_code >= 500 or response.status_code in WORTH_ANOTHER_TRY:
            raise SinkAway(reason)
        raise SinkRefused(reason)

    def close(self) -> None:
        self._session.close()


def _describe(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "it does not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, requests.ConnectionError):
        return "it cannot be reached"
    return type(error).__name__
