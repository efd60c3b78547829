"""Names that people look for settings under, and where the settings really are."""

from collections.abc import Iterator, Mapping
from typing import Any

from sas_jax.errors import nearest

# A name from elsewhere -> the last part of ours.
_OTHER_NAMES = {
    "num_layers": "depth",
    "n_layers": "depth",
    "n_layer": "depth",
    "layers": "depth",
    "embedding_dim": "width",
    "hidden_size": "width",
    "d_model": "width",
    "n_embd": "width",
    "hidden_dim": "width",
    "n_head": "num_heads",
    "n_heads": "num_heads",
    "heads": "num_heads",
    "seq_len": "context",
    "context_length": "context",
    "context_len": "context",
    "lr": "learning_rate",
    "batch_size": "batch_rows",
    "steps": "num_steps",
    "train_steps": "num_steps",
    "max_steps": "num_steps",
    "total_steps": "num_steps",
    "grad_clip": "clip_norm",
    "clip_grad": "clip_norm",
    "warmup_steps": "warmup",
    "num_candidates": "num_first",
    "n_shots": "num_first",
    "om_len": "energy_window",
    "prompt_len": "prompt_length",
    "max_ep_len": "max_timestep",
}


def paths(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every setting in nested values, in order."""
    for name, value in values.items():
        path = f"{where}.{name}" if where else name
        if isinstance(value, Mapping):
            yield from paths(value, path)
        else:
            yield path, value


def hint(path: str, values: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    """``"; did you mean 'model.decoder.depth'?"``, or "" where nothing comes near.

    path: what was asked for. values: all settings that there are. group: those where
    it was looked for.
    """
    known = [found for found, _ in paths(values)]
    leaf = path.rpartition(".")[2]
    wanted = (leaf, _OTHER_NAMES.get(leaf.lower(), leaf))
    same = [found for found in known if found.rpartition(".")[2] in wanted]
    if same:
        return f"; did you mean {' or '.join(map(repr, same[:3]))}?"
    return nearest(leaf, group) or nearest(path, known)
