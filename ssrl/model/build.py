"""From a configuration to its network."""

from __future__ import annotations

from typing import Any

from ssrl.model.blend import Blend
from ssrl.model.config import AnyModelConfig, BlendConfig, ModelConfig
from ssrl.model.network import SSRL
from ssrl.plain import register_choice

Network = SSRL | Blend


def build_network(config: AnyModelConfig) -> Network:
    return Blend(config) if isinstance(config, BlendConfig) else SSRL(config)


def _choose_config(value: Any) -> type:
    return BlendConfig if isinstance(value, dict) and "losses" in value else ModelConfig


register_choice(AnyModelConfig, _choose_config)
