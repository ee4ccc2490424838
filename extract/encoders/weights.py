"""Where an encoder's weights come from, and how we know that they are the same ones next time."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import pooch
from requests import RequestException
from torch import nn

from ssrl.cache import get_cache_folder, keep_within_limit, mark_used
from ssrl.errors import UserError
from ssrl.files import write_text

READABLE = 0o644  # pooch keeps a download to its owner; caches are shared
logger = logging.getLogger(__name__)


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
    logger.warning("the encoder's weights are random: neither the features nor scores made from them mean anything")
    return int(text)


def fetch(name: str, url: str) -> Weights:
    """The file in our cache, downloaded if it is not there.

    For lack of a published hash nothing vouches for the first download but its connection (HTTPS and the number of
    bytes announced). Its SHA-256 is written down beside it, and at every later use the whole file is checked against
    that. A file appears under its name only when whole.
    """
    path = get_cache_folder() / "weights" / url.rsplit("/", 1)[-1]
    recorded = path.with_name(f"{path.name}.sha256")
    if not path.exists():
        pooch.get_logger().setLevel("WARNING")  # it would tell the user what to program
        with downloading(url):
            pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, progressbar=True)
        path.chmod(READABLE)
        write_text(recorded, sha256_of(path) + "\n")
        keep_within_limit()
    mark_used(path)
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
    except (RequestException, URLError, TimeoutError, ConnectionError) as error:
        cause: BaseException = error
        while cause.__context__ is not None:
            cause = cause.__context__  # the system's own word, short
        raise UserError(
            f"cannot download {url} ({cause}); fetch it by other means and name the file with --weights FILE, "
            f"or use --encoder micro3d, which needs no download"
        ) from error


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
