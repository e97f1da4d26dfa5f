"""A whole run of the sparse access memory, in place on one copy of the memory.

The forward pass stores the few words that each step changes. The backward pass puts them back, step
by step, so that each step finds the memory as it was.
"""

import itertools
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from throughtime.core.cell import bind
from throughtime.core.errors import LengthsError, StateError
from throughtime.core.state import State, map_state
from throughtime.memory.changes import Changes
from throughtime.memory.controller import FLOOR
from throughtime.memory.nearest import Index
from throughtime.memory.ring import Ring


def run_in_place(
    cell: Any, projected: Tensor, state: State, counts: Sequence[int]
) -> tuple[Tensor, State]:
    """Run a SAM over sequences; equal to `step` after step.

    Arguments:
        cell: the SAM.
        projected: (steps, gates), the projections of all steps, side by side.
        state: the state before the first step, which is not changed.
        counts: number of sequences of each step, never more than of the step before.

    Returns:
        Outputs (steps, output), and the state after each sequence's last step.

    Raises:
        LengthsError: the run has more steps than the cell's `longest`.
    """
    if cell.longest is not None and len(counts) > cell.longest:
        raise LengthsError(
            "steps of a run",
            got=len(counts),
            expected=f"at most {cell.longest}, the cell's `longest`",
            fix="Raise `longest`, or run the sequence in pieces with detached states.",
        )
    weights = (cell.weight_hh, cell.weight_heads, cell.bias_heads)
    tensors = (projected, *weights, *state)
    recorded = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    outputs, *fields = _Run.apply(cell, tuple(counts), recorded, *tensors)
    return outputs, type(state)(*fields)


@final
class _Forward:
    """The forward pass: the values of all steps, side by side, and the changes of the memory."""

    def __init__(
        self, cell: Any, counts: Sequence[int], recorded: bool, given: Sequence[Any], state: State
    ):
        projected, weight_hh, weight_heads, bias_heads = given
        steps, heads, reads = len(projected), cell.read_heads, cell.reads
        batch, words, width = state.memory.shape
        self.memory = state.memory.clone()
        self.accessed = state.accessed.to("cpu", copy=True).contiguous()
        self.changes = Changes(self.memory, counts, heads * (reads + 1)) if recorded else None
        self.outputs = projected.new_empty(steps, cell.output_size)
        self.c = projected.new_empty(steps, cell.hidden_size)
        self.weights = projected.new_empty(steps, heads, reads)
        self.places = state.places.new_empty(steps, heads, reads)
        self.counts = counts

        index = Index(self.memory, reads, cell.index)
        rings = [Ring(row) for row in self.accessed.numpy()]
        offset = torch.arange(batch, device=projected.device)[:, None] * words
        flat = self.memory.flatten(0, 1)
        h, c, places, weights = state.h, state.c, state.places, state.weights
        start = 0
        for t, n in enumerate(counts):
            at = slice(start, start + n)
            start += n
            gates = torch.addmm(projected[at], h[:n], weight_hh.t())
            i, f, g, o = gates.chunk(4, -1)
            c = torch.addcmul(f.sigmoid() * c[:n], i.sigmoid(), g.tanh(), out=self.c[at])
            y = o.sigmoid() * c.tanh()
            p = y @ weight_heads.t()
            given_heads = cell.as_heads(p if bias_heads is None else p.add_(bias_heads))
            query, content, strength, alpha, gamma = given_heads

            least = [ring.oldest(heads) for ring in rings[:n]]
            oldest = torch.tensor(least, dtype=torch.int64, device=p.device).view(n, heads)
            own = torch.cat([oldest, places[:n].flatten(1)], 1)
            shared = alpha * gamma
            written = torch.cat([alpha - shared, (shared[..., None] * weights[:n]).flatten(1)], 1)
            vectors = torch.cat([content, content.repeat_interleave(reads, 1)], 1)
            changed = own + offset[:n]
            if self.changes is not None:
                self.changes.keep(t, changed)
            flat[changed[:, :heads]] = 0
            flat.index_put_((changed,), written[..., None] * vectors, accumulate=True)
            index.update(own, flat[changed])

            if cell.check:
                index.check()

            places = self.places[at]
            places.copy_(index.search(query))
            found = flat[(places.flatten(1) + offset[:n])].view(n, heads, reads, width)
            scores = _cosines(query, found)[0]
            weights = self.weights[at]
            torch.softmax(strength[..., None] * scores, -1, out=weights)
            read = (weights[..., None] * found).sum(-2)
            h = torch.cat([y, read.flatten(1)], 1, out=self.outputs[at])
            touched = torch.cat([own, places.flatten(1)], 1).tolist()
            totals = torch.cat([written, weights.flatten(1)], 1).tolist()
            for ring, numbers, amounts in zip(rings, touched, totals, strict=False):
                total: dict[int, float] = {}
                for word, amount in zip(numbers, amounts, strict=True):
                    total[word] = total.get(word, 0.0) + amount
                ring.access(sorted(w for w, a in total.items() if a > cell.threshold))

        self.ends = _ends(counts, batch, projected.device)

    def state(self) -> tuple[Tensor, ...]:
        """Return the fields of the state after each sequence's last step."""
        h, c, weights = (t[self.ends] for t in (self.outputs, self.c, self.weights))
        # `data` has a version of its own, which counts the changes that a caller makes
        memory, accessed = self.memory.data, self.accessed.to(self.memory.device)
        return h, c, memory, self.places[self.ends], weights, accessed


def _ends(counts: Sequence[int], batch: int, device: torch.device) -> Tensor:
    """Return the place of each sequence's last step among all steps."""
    ends, start = [0] * batch, 0
    for n in counts:
        ends[:n] = range(start, start + n)
        start += n
    return torch.tensor(ends, device=device)


def _cosines(query: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the similarities of (rows, heads, reads) words, and 1 / length of query and words."""
    u = (query.square().sum(-1, keepdim=True) + FLOOR).rsqrt()
    v = (found.square().sum(-1) + FLOOR).rsqrt()
    return (found * query[..., None, :]).sum(-1) * (u * v), u, v


@final
class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: Any, counts: tuple[int, ...], recorded: bool, *tensors: Any):
        run = _Forward(cell, counts, recorded, tensors[:4], cell.as_state(tensors[4:]))
        outputs, ends = run.outputs, run.state()
        if recorded:
            ctx.memory = ends[2].detach()
            ctx.version = ctx.memory._version
            ctx.save_for_backward(*tensors, outputs)
            ctx.set_materialize_grads(False)
            ctx.mark_non_differentiable(ends[3], ends[5])
            del run.outputs  # saved above: an output that is kept elsewhere would keep itself alive
            ctx.cell, ctx.run = cell, run
        return outputs, *ends

    @staticmethod
    def backward(ctx: Any, *found: Tensor | None):
        if ctx.memory._version != ctx.version:
            raise StateError(
                "the memory of a state",
                got="words that were changed in place since the forward pass",
                expected="the memory that the run returned",
                fix="Change a clone of it.",
            )
        *tensors, outputs = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            return None, None, None, *_by_steps(ctx.cell, ctx.run.counts, tensors, needed, found)
        back = _Backward(ctx.cell, ctx.run, tensors, outputs, found)
        return None, None, None, *back.gradients(needed)


def _by_steps(
    cell: Any,
    counts: Sequence[int],
    tensors: Sequence[Any],
    needed: Sequence[bool],
    found: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Return gradients that have gradients: those of the loop over `step`."""
    projected, weight_hh, weight_heads, bias_heads, *fields = tensors
    named = {"weight_hh": weight_hh, "weight_heads": weight_heads, "bias_heads": bias_heads}
    bound, state = bind(cell, named), cell.as_state(fields)
    outputs: list[Tensor] = []
    ended: list[State] = []
    for rows in projected.split(counts):
        n = len(rows)
        if n < len(state.h):
            ended.append(map_state(lambda s, n=n: s[n:], state))
            state = map_state(lambda s, n=n: s[:n], state)
        output, state = bound.step(rows, state)
        outputs.append(output)
    end = map_state(lambda *parts: torch.cat(parts), state, *ended[::-1])
    pairs = [(r, g) for r, g in zip((torch.cat(outputs), *end), found, strict=True)]
    pairs = [(r, g) for r, g in pairs if g is not None and r.requires_grad]
    wanted = [t for t, need in zip(tensors, needed, strict=True) if need]
    made = torch.autograd.grad(
        [r for r, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True
    )
    rest = iter(made)
    return [next(rest) if need else None for need in needed]


@final
class _Backward:
    """The backward pass: the gradients of one step after the other, the last step first.

    The gradient of the memory is kept for the words alone that the run read or wrote.
    """

    def __init__(
        self,
        cell: Any,
        run: _Forward,
        tensors: Sequence[Any],
        outputs: Tensor,
        found: Sequence[Tensor | None],
    ):
        self.cell, self.run, self.outputs, self.found = cell, run, outputs, found
        projected, self.weight_hh, self.weight_heads, bias_heads, *fields = tensors
        state = cell.as_state(fields)
        counts, heads, reads = run.counts, cell.read_heads, cell.reads
        batch, words, width = state.memory.shape
        self.before = _before(counts, batch, outputs.device)
        self.h = torch.cat([state.h, outputs])[self.before]
        c = torch.cat([state.c, run.c])[self.before]
        old_weights = torch.cat([state.weights, run.weights])[self.before]

        # all that needs no memory, for all steps at once; gradients take the place of values
        self.gates = torch.addmm(projected, self.h, self.weight_hh.t())
        i, f, g, o = self.gates.chunk(4, -1)
        for part, function in ((i, torch.sigmoid), (f, torch.sigmoid), (g, torch.tanh)):
            function(part, out=part)
        torch.sigmoid(o, out=o)
        y = outputs[:, : cell.hidden_size]
        self.p = y @ self.weight_heads.t()
        if bias_heads is not None:
            self.p += bias_heads
        query, content, strength, alpha, gamma = cell.as_heads(self.p)
        shared = (alpha * gamma)[..., None] * old_weights

        row = torch.cat([torch.arange(n) for n in counts]).to(outputs.device)[:, None] * words
        found_at = run.places.flatten(1) + row
        changes = run.changes
        assert changes is not None
        self.touched, slots = torch.cat([changes.places, found_at], 1).unique(return_inverse=True)
        self.d_words = outputs.new_zeros(len(self.touched), width)
        d_memory = found[3]
        if d_memory is not None:
            self.d_words += d_memory.flatten(0, 1)[self.touched]
        d_h, d_c, d_weights = (
            torch.zeros_like(s) if d is None else d.clone()
            for s, d in zip(
                (state.h, state.c, state.weights), (found[1], found[2], found[5]), strict=True
            )
        )
        d_outputs, flat = found[0], run.memory.flatten(0, 1)
        changed = changes.places.shape[1]
        of_heads = self.p.unflatten(-1, (heads, -1))
        start = len(outputs)
        for t in reversed(range(len(counts))):
            n = counts[t]
            start -= n
            at = slice(start, start + n)
            d_output = d_h[:n] if d_outputs is None else d_h[:n] + d_outputs[at]
            d_y, d_read = d_output.split([cell.hidden_size, heads * width], -1)
            d_read = d_read.view(n, heads, 1, width)

            # the read
            m, w, q, beta = flat[found_at[at]], run.weights[at], query[at], strength[at][..., None]
            m = m.view(n, heads, reads, width)
            s, u, v = _cosines(q, m)
            d_w = d_weights[:n] + (m * d_read).sum(-1)
            d_score = w * (d_w - (w * d_w).sum(-1, keepdim=True))
            d_beta = (d_score * s).sum(-1)
            d_s = d_score * beta
            along, turned = d_s * (u * v), d_s * s
            d_q = (along[..., None] * m).sum(-2)
            d_q -= turned.sum(-1, keepdim=True) * u.square() * q
            d_m = w[..., None] * d_read + along[..., None] * q[..., None, :]
            d_m -= (turned * v.square())[..., None] * m
            self.d_words.index_put_((slots[at, changed:],), d_m.flatten(1, 2), accumulate=True)

            # the write
            of_changed = slots[at, :changed]
            g_m = self.d_words[of_changed]
            new, old = g_m[:, :heads], g_m[:, heads:].view(n, heads, reads, width)
            a, al, ga = content[at], alpha[at], gamma[at]
            d_new, d_old = (new * a).sum(-1), (old * a[..., None, :]).sum(-1)
            d_a = (al - al * ga)[..., None] * new + (shared[at][..., None] * old).sum(-2)
            of_old = (d_old * old_weights[at]).sum(-1)
            d_alpha = d_new + ga * (of_old - d_new)
            d_gamma = al * (of_old - d_new)
            d_weights[:n] = d_old * (al * ga)[..., None]
            self.d_words[of_changed[:, :heads]] = 0
            changes.exchange(t)

            # the heads
            slope = 1 - torch.exp(1 - beta[..., 0])  # of softplus, from its value
            rest = [d_beta * slope, d_alpha * al * (1 - al), d_gamma * ga * (1 - ga)]
            of_heads[at] = torch.cat([d_q, d_a, torch.stack(rest, -1)], -1)
            d_y = torch.addmm(d_y, self.p[at], self.weight_heads)

            # the controller
            i, f, g, o = self.gates[at].chunk(4, -1)
            tanh = run.c[at].tanh()
            d_cell = d_c[:n] + d_y * o * (1 - tanh * tanh)
            parts = [
                d_cell * g * i * (1 - i),
                d_cell * c[at] * f * (1 - f),
                d_cell * i * (1 - g * g),
                d_y * tanh * o * (1 - o),
            ]
            d_c[:n] = d_cell * f
            torch.cat(parts, 1, out=self.gates[at])
            torch.mm(self.gates[at], self.weight_hh, out=d_h[:n])
        self.ends = d_h, d_c, d_weights
        if cell.check and not torch.equal(run.memory, state.memory):
            raise StateError(
                "the memory after the backward pass",
                got="other bits than before the run",
                expected="the same",
                fix="Report this: the changes of a step were not all stored.",
            )

    def gradients(self, needed: Sequence[bool]) -> list[Tensor | None]:
        """Return the gradients, and bring the memory to its state after the run."""
        run, cell = self.run, self.cell
        assert run.changes is not None
        for t in range(len(run.counts)):
            run.changes.exchange(t)
        d_memory = None
        if needed[6]:
            last = self.found[3]
            d_memory = torch.zeros_like(run.memory) if last is None else last.clone()
            d_memory.flatten(0, 1)[self.touched] = self.d_words
        d_h, d_c, d_weights = self.ends
        y = self.outputs[:, : cell.hidden_size]
        made = (
            lambda: self.gates,
            lambda: self.gates.t() @ self.h,
            lambda: self.p.t() @ y,
            lambda: self.p.sum(0),
            lambda: d_h,
            lambda: d_c,
            lambda: d_memory,
            lambda: None,
            lambda: d_weights,
            lambda: None,
        )
        return [make() if need else None for make, need in zip(made, needed, strict=True)]


def _before(counts: Sequence[int], batch: int, device: torch.device) -> Tensor:
    """Return the place of the step before each, among the states before the run and all steps."""
    places, start = [torch.arange(counts[0])], batch
    for before, n in itertools.pairwise(counts):
        places.append(torch.arange(start, start + n))
        start += before
    return torch.cat(places).to(device)
