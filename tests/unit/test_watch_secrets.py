"""Credentials come from outside, and go nowhere."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ssrl.errors import UserError
from ssrl.watch.secrets import HideSecrets, Secrets


def test_names_are_replaced_by_values_as_addresses_need_them() -> None:
    secrets = Secrets({"USER": "cam", "PASSWORD": "p@ss/word:1"})
    assert secrets.expand("rtsp://$USER:${PASSWORD}@host/live") == "rtsp://cam:p%40ss%2Fword%3A1@host/live"
    assert secrets.expand("/videos/a$1.mp4") == "/videos/a$1.mp4"


def test_an_unknown_name_is_told_without_the_rest() -> None:
    with pytest.raises(UserError, match=r"names \$PASSWORD, which is not set") as raised:
        Secrets({}).expand("rtsp://admin:$PASSWORD@host/live?key=hunter22")
    assert "admin" not in str(raised.value) and "hunter22" not in str(raised.value)


def test_a_file_adds_values_and_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "camera.env"
    path.write_text('# the gate\nGATE_USER=cam\n\nGATE_PASSWORD="with = and #"\n')
    monkeypatch.setenv("GATE_USER", "other")
    assert Secrets.read(path).expand("x://$GATE_USER:$GATE_PASSWORD@h") == "x://cam:with%20%3D%20and%20%23@h"
    path.write_text("GATE_USER: cam\n")
    with pytest.raises(UserError, match="line 1, is not NAME=VALUE"):
        Secrets.read(path)
    with pytest.raises(UserError, match="there is no file"):
        Secrets.read(tmp_path / "absent")


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://cam:p%40ssword@host/live",
        "[Errno 5] Input/output error: 'rtsp://cam:p@ssword@host/live'",
        "https://host/hook?token=t0ken-value&x=1",
        "url: /hook?token=t0ken-value (p@ssword)",
        "rtsp://cam:p@ssword@host:554/live?a=t0ken-value answers 401",
        "rtsp://cam:p/ssword@host is no address",
    ],
)
def test_messages_show_no_credentials(text: str) -> None:
    secrets = Secrets({"PASSWORD": "p@ssword"})
    secrets.expand("rtsp://cam:$PASSWORD@host/live")
    secrets.expand("https://host/hook?token=t0ken-value")
    hidden = secrets.hide(text)
    assert not any(value in hidden for value in ("p@ssword", "p%40ssword", "p/ssword", "t0ken-value"))
    assert "host" in hidden or "hook" in hidden


def test_log_records_show_no_credentials() -> None:
    secrets = Secrets({})
    secrets.expand("http://user:hunter22@host/")
    record = logging.LogRecord("ssrl", logging.WARNING, "", 0, "lost %s (%s)", ("http://user:hunter22@host/", 5), None)
    assert HideSecrets(secrets).filter(record)
    assert record.getMessage() == "lost http://***@host/ (5)"
