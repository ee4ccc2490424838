"""Everything that Apprise reaches: e-mail, Telegram, Matrix, ntfy, Pushover, Slack, Teams, ...

apprise:ADDRESS, with one of Apprise's own, such as apprise:ntfy://$TOKEN@host/topic
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from ssrl.errors import UserError
from ssrl.watch.notices import Kind, Notice, describe
from ssrl.watch.sinks.base import Camera, SinkAway, load_optional


class AppriseSink:
    """See `Sink`."""

    kinds: frozenset[Kind] = frozenset({"opened", "closed", "connection"})

    def __init__(self, address: str, camera: Camera) -> None:
        apprise = load_optional("apprise", "Apprise", "apprise:")
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its messages may have addresses in them
        self._receiver = apprise.Apprise()
        if not self._receiver.add(address.removeprefix("apprise:")):
            scheme = address.removeprefix("apprise:").partition("://")[0]
            raise UserError(f"Apprise does not take this address of the kind {scheme}://; see its list of services")

    def deliver(self, notice: Notice) -> None:
        with tempfile.TemporaryDirectory() as folder:
            attached = None
            if notice.picture is not None:
                picture = Path(folder) / "anomaly.jpg"
                picture.write_bytes(notice.picture)
                attached = str(picture)
            if not self._receiver.notify(body=describe(notice), title="ssrl-watch", attach=attached):
                raise SinkAway("Apprise could not deliver it")

    def close(self) -> None:
        pass
