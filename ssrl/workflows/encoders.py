"""The encoder that a checkpoint's features came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssrl.errors import UserError

if TYPE_CHECKING:
    from ssrl.checkpoints import Checkpoint
    from ssrl.extract.encoders import Encoder


def load_same_encoder(checkpoint: Checkpoint, name: str, weights: str | None = None) -> Encoder:
    """Load the encoder of the features that `checkpoint` was trained on. Raises a UserError if it is not available."""
    from ssrl.extract.encoders import ENCODERS, load_encoder

    if checkpoint.features is None:
        raise UserError(f"{name} does not record the features it was trained on, so it cannot score videos")
    config = checkpoint.features.config
    if config.encoder not in ENCODERS:
        raise UserError(
            f"{name} was trained on imported features ({config.encoder}), whose encoder is not available, so it "
            f"cannot score videos; train on features from ssrl-extract"
        )
    try:
        encoder = load_encoder(config.encoder, weights or config.weights)
    except UserError as error:
        raise UserError(
            f"{name} needs {config.encoder} with the weights {config.weights} (SHA-256 {config.weights_sha256[:12]}…), "
            f"which are not at hand: {error}; give their file with --weights FILE"
        ) from error
    if encoder.weights.sha256 != config.weights_sha256:
        raise UserError(
            f"{name} was trained on features of {config.encoder} with the weights {config.weights} "
            f"(SHA-256 {config.weights_sha256[:12]}…), not with these ({encoder.weights.sha256[:12]}…); "
            f"give the right file with --weights"
        )
    return encoder
