"""ssrl-import: what others have released, made into ours."""

from __future__ import annotations

from pathlib import Path

import click

from ssrl.commands.options import HELP
from ssrl.console import command_errors, results


@click.group(context_settings=HELP)
def main() -> None:
    """Make released files into ones of this program.

    Example: ssrl-import checkpoint released.pkl --out best.pt
    """


@main.command(context_settings=HELP)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The checkpoint to write.")
@command_errors
def checkpoint(file: Path, out: Path) -> None:
    """A state dict of the authors' release (stages 1 to 4), or of RTFM, as a checkpoint."""
    from ssrl.checkpoints import Checkpoint, load_tensors, save_checkpoint
    from ssrl.network import SSRL
    from ssrl.released import load_released, model_of

    state = load_tensors(file)
    network = SSRL(model_of(state, file))
    load_released(network, state)
    metrics = {"stages": [{"selection": f"imported from {file.name}"}]}
    save_checkpoint(out, Checkpoint(network.config, network.state_dict(), {}, {"recipe": "released"}, metrics))
    model = network.config
    results.print(f"{out}: D = {model.feature_dim}, scales {','.join(map(str, model.scales))}", markup=False)
