"""Reading many dialogues into a folder, a block at a time, resumed where it stopped."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from interp import Activations, HookedModel, Origin, concatenate
from probes.transcripts import At, Dialogue, read_pieces, transcribe

BLOCK = 5
"""Dialogues of a file."""
STORED: tuple[At, ...] = ("last", "mean")


def read_to_disk(
    model: HookedModel,
    dialogues: Sequence[Dialogue],
    folder: str | Path,
    *,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    block: int = BLOCK,
    progress: bool = False,
) -> dict[str, Activations]:
    """Activations at every piece, kept in a folder as bfloat16.

    Args:
        model: A language model.
        dialogues: What to read.
        folder: Where the blocks lie; those that are there are not read again.
        layers: Layers, `None` for all; a pass stops behind the last of them.
        site: The site.
        block: Dialogues of a file; a run that goes on must take as many.
        progress: Show a progress bar.

    Raises:
        ValueError: If a block in the folder has other layers, or is of another model.
    """
    folder, parts = Path(folder), []
    blocks = [dialogues[k : k + block] for k in range(0, len(dialogues), block)]
    origin = model.origin
    for some in tqdm(blocks, disable=not progress, desc=folder.name):
        name = _digest(some)
        paths = {at: folder / f"{name}-{at}.safetensors" for at in STORED}
        if not all(path.exists() for path in paths.values()):
            read = read_pieces(model, some, site=site, layers=layers, dtype=torch.bfloat16)
            for at, path in paths.items():
                read[at].save(path)
        parts.append({at: _loaded(path, layers, origin) for at, path in paths.items()})
    return {at: concatenate([part[at] for part in parts]) for at in STORED}


def _digest(block: Sequence[Dialogue]) -> str:
    """A name for what is read, so that other texts never pass for these."""
    texts = "\n\n".join(transcribe(dialogue).text for dialogue in block)
    return hashlib.sha256(texts.encode()).hexdigest()[:16]


def _loaded(path: Path, layers: Sequence[int] | None, origin: Origin) -> Activations:
    """A block, if it is what it should be."""
    found = Activations.load(path)
    if found.origin != origin or (layers is not None and found.layers != tuple(layers)):
        raise ValueError(
            f"{path} holds layers {found.layers} of {found.origin}: choose another folder"
        )
    return found
