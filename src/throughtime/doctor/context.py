"""What a model makes of old inputs: its loss when those beyond k steps are another sequence's."""

from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.state import map_state
from throughtime.doctor.subject import Subject
from throughtime.foreign.site import LayerSite
from throughtime.foreign.sites import find_recurrent, replaced_forward, site_of
from throughtime.foreign.watching import watch
from throughtime.instruments.input_influence import exchange_older


def context_losses(
    subject: Subject, model: nn.Module, layer: str, answered: Tensor, older: int, seed: int = 0
) -> list[float] | None:
    """Held-out losses where each answer sees its own last inputs alone.

    With one answer a sequence, the inputs `older` and more steps before it are replaced by those of
    another sequence of the batch. With answers at many steps, each of them is computed from the
    state that another sequence had `older` steps before, and the sequence's own inputs since.

    Arguments:
        subject: data and loss.
        model: a copy.
        layer: name of its recurrent layer.
        answered: (time, batch) which steps of the first held-out batch the loss reads.
        older: at least 1.
        seed: of the exchange.

    Returns:
        By held-out batch; None where the layer runs backwards too, so that an old input of one
        direction is a new one of the other; and where answers at many steps come from a layer that
        is called several times, or from a cell.
    """
    _, module = find_recurrent(model, layer)
    if site_of(module).directions > 1:
        return None
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    single = int(answered.sum(0).max()) <= 1
    losses: list[float] = []
    for batch in subject.held_out:
        shift = int(torch.randint(1, 2**20, (), generator=generator))
        with torch.no_grad():
            if single:
                losses.append(_scrambled(subject, model, layer, batch, older, shift))
            else:
                value = _windowed(subject, model, layer, batch, answered.any(1), older, shift)
                if value is None:
                    return None
                losses.append(value)
    return losses


def _scrambled(
    subject: Subject, model: nn.Module, layer: str, batch: Any, older: int, shift: int
) -> float:
    def loss() -> Tensor:
        return subject.loss(model, batch)

    plain = watch(model, loss, layer=layer, level=0, gradients=False)
    rows = len(plain.lengths)
    if rows < 2:
        return float(plain.loss)
    other = torch.arange(rows).roll(1 + shift % (rows - 1))
    change = exchange_older(other, plain.lengths, older - 1)
    return float(watch(model, loss, layer=layer, level=0, change=change, gradients=False).loss)


def _windowed(
    subject: Subject,
    model: nn.Module,
    layer: str,
    batch: Any,
    answered: Tensor,
    older: int,
    shift: int,
) -> float | None:
    _, module = find_recurrent(model, layer)
    site = site_of(module)
    if not isinstance(site, LayerSite):
        return None
    site.replica.share_tensors(module)
    site.replica.engine = "auto"
    run: Any = site.replica.forward
    runs = 0

    def forward(x: Any, hx: Any = None, **options: Any) -> Any:
        nonlocal runs
        runs += 1
        if not isinstance(x, Tensor) or x.dim() != 3 or options:
            runs = 2
            return run(x, hx, **options)
        outputs, final, states = run(x, hx, return_states=True)
        grid = x.transpose(0, 1) if site.replica.batch_first else x
        result = outputs.transpose(0, 1) if site.replica.batch_first else outputs
        times = [t for t in answered.nonzero()[:, 0].tolist() if older <= t < grid.shape[0]]
        if times and grid.shape[1] > 1:
            result = result.clone()
            at = torch.tensor(times, device=grid.device)
            windows = torch.cat([grid[t - older + 1 : t + 1] for t in times], 1)
            other = 1 + shift % (grid.shape[1] - 1)
            before = map_state(
                lambda s: (
                    s.index_select(0, at - older).roll(other, 2).transpose(0, 1).flatten(1, 2)
                ),
                states,
            )
            if site.replica.batch_first:
                windows = windows.transpose(0, 1)
            given = before.h if before._fields == ("h",) else before
            late, _ = run(windows, given)
            last = late[:, -1] if site.replica.batch_first else late[-1]
            result[at] = last.reshape(len(times), grid.shape[1], -1)
        return (result.transpose(0, 1) if site.replica.batch_first else result), final

    with replaced_forward(module, forward):
        value = float(subject.loss(model, batch))
    return value if runs == 1 else None
