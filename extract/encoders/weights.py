"""Where an encoder's weights come from, and how we know that they are the same ones next time."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from torch import nn

from ssrl.console import warn
from ssrl.errors import UserError
from ssrl.files import replacing, write_text

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Weights:
    """`name` is what the user asked for; `path` is None for random weights."""

    name: str
    sha256: str
    path: Path | None = None


def file_weights(name: str, path: Path) -> Weights:
    if not path.is_file():
        raise UserError(f"there is no weights file {path}")
    return Weights(name, sha256_of(path), path)


@contextmanager
def refusing_damage(path: Path, wanted: str) -> Iterator[None]:
    """Turn what PyTorch raises over a file that does not hold `wanted` into a UserError that says so."""
    try:
        yield
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, KeyError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} does not hold {wanted} ({reason})") from error


def random_seed(weights: str) -> int | None:
    """The seed of "random:SEED", or None for any other name. Warns that such features mean nothing."""
    if not weights.startswith("random:"):
        return None
    text = weights.removeprefix("random:")
    if not text.isdigit():
        raise UserError(f"random weights need a seed, as in random:0, not {weights!r}")
    warn("the encoder's weights are random: the features mean nothing, and neither does a score made from them")
    return int(text)


def fetched(name: str, url: str) -> Weights:
    """Download `url` to the cache, once. Its SHA-256 is written down on arrival and checked at every later use."""
    path = cache_folder() / url.rsplit("/", 1)[-1]
    recorded = path.with_name(f"{path.name}.sha256")
    if not path.exists():
        _download(url, path)
        write_text(recorded, sha256_of(path) + "\n")
    weights = file_weights(name, path)
    if not recorded.exists() or recorded.read_text().strip() != weights.sha256:
        raise UserError(
            f"{path} is not what was downloaded: its SHA-256 is {weights.sha256}, "
            f"but {recorded.name} says otherwise; delete both files to fetch it again"
        )
    return weights


@contextmanager
def downloading(url: str) -> Iterator[None]:
    """Turn a download that fails into a UserError that says what to do instead."""
    try:
        yield
    except (URLError, TimeoutError, ConnectionError) as error:
        raise UserError(
            f"cannot download {url} ({error}); fetch it by other means and name the file with --weights FILE, "
            f"or use --encoder micro3d, which needs no download"
        ) from error


def cache_folder() -> Path:
    """$SSRL_CACHE, or ssrl below $XDG_CACHE_HOME, or ~/.cache/ssrl."""
    chosen = os.environ.get("SSRL_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ssrl"


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_state(network: nn.Module) -> str:
    """Of the names and values of a network's weights, where no file holds them."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _download(url: str, path: Path) -> None:
    with downloading(url), urlopen(url, timeout=TIMEOUT_SECONDS) as response, replacing(path) as temporary:
        expected = response.headers.get("Content-Length")
        with temporary.open("wb") as file:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
        if expected is not None and temporary.stat().st_size != int(expected):
            raise UserError(f"{url} broke off after {temporary.stat().st_size} of {expected} bytes; try again")
