"""Credentials: from the environment or a file into addresses, and out of everything that is written.

rtsp://$CAMERA_USER:$CAMERA_PASSWORD@host/live ── Secrets.expand ──▶ the address that is opened
                                               ── Secrets.hide ────▶ rtsp://***@host/live
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from ssrl.errors import UserError

HIDDEN = "***"
MIN_LENGTH = 4  # a shorter value is hidden in addresses alone: it would be found within other words
_NAME = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
_USER = re.compile(r"(?<=://)[^\s'\"]*@")  # to the last @: a password may have one, or a slash
_QUERY = re.compile(r"(\w://[^\s?'\"]*)\?[^\s'\"]*")


class Secrets:
    """Values by name, and all credentials that were seen in addresses."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = os.environ if values is None else values
        self._hidden: set[str] = set()

    @classmethod
    def read(cls, path: Path | None) -> Secrets:
        """The environment, and the lines NAME=VALUE of a file, which take precedence. Raises a UserError."""
        return cls({**os.environ, **({} if path is None else _read_values(path))})

    def expand(self, address: str) -> str:
        """Put values in the place of $NAME and ${NAME} of an address, percent-encoded; paths stay as they are. Raises a
        UserError for an unknown name.
        """
        if "://" not in address:
            return address

        def insert(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            if name not in self._values:
                raise UserError(
                    f"{self.hide(address)} names ${name}, which is not set; set it in the environment or in the "
                    f"file of --secrets, or write %24 for a dollar sign"
                )
            self._hide_value(self._values[name])
            return quote(self._values[name], safe="")

        expanded = _NAME.sub(insert, address)
        self._note_credentials(expanded)
        return expanded

    def hide(self, text: str) -> str:
        """Remove user names, passwords and queries of addresses, and known credentials wherever they are."""
        text = _QUERY.sub(rf"\1?{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))
        for value in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return text

    def _note_credentials(self, address: str) -> None:
        try:
            parts = urlsplit(address)
        except ValueError:
            return
        self._hide_value(parts.password or "")
        for field in parts.query.split("&"):
            self._hide_value(field.partition("=")[2])

    def _hide_value(self, value: str) -> None:
        self._hidden |= {form for form in (value, quote(value, safe=""), unquote(value)) if len(form) >= MIN_LENGTH}


class HideSecrets(logging.Filter):
    """Hides credentials in log records."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._secrets.hide(record.getMessage()), None
        return True


def _read_values(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path} with secrets; check --secrets") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8; write one NAME=VALUE per line") from error
    values = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        if not equals or not name.strip().isidentifier():
            raise UserError(f"{path}, line {number}, is not NAME=VALUE")
        values[name.strip()] = value.strip().removeprefix('"').removesuffix('"')
    return values
