"""One seed of the fuzzer: the cells that it draws, and what it does with each."""

import collections
import random

import torch
from cells.library import CELLS
from engines.trace.random_pointwise import RandomCell, Recipe, recipes
from hypothesis import HealthCheck, Phase, given, seed, settings
from torch import Tensor

import throughtime as tt
from throughtime.core.errors import ConfigurationError, ThroughtimeError
from throughtime.core.state import map_state, state_tensors
from throughtime.engines import engine_options, recording
from throughtime.engines.cpp import operators
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.cpp.engine import kernel_of
from throughtime.engines.cpp.kernel import Kernel, compile_kernels, kernel_named
from throughtime.engines.cpp.operands import gather
from throughtime.engines.trace.plan import plan
from throughtime.engines.trace.program import UntraceableError


class Fuzzer:
    """What one seed draws and runs."""

    def __init__(self, number: int, cells: int):
        self.random, self.cells = random.Random(number), cells
        self.number, self.counts = number, collections.Counter()
        torch.manual_seed(number)
        operators.lend = _poisoned

    def run(self) -> dict[str, int]:
        """All cells of the seed."""
        dtype = self.random.choice([torch.float64, torch.float64, torch.float32])
        made: list[tt.GatedCell] = []
        for recipe in drawn(self.number, self.cells):
            made.append(RandomCell(recipe, self.size(4), self.size(19), dtype=dtype))
        for name in self.random.sample(sorted(CELLS), 1 + self.cells // 8):
            cell = CELLS[name](self.size(4), 3 + self.size(9)).to(dtype)
            made += [cell] if isinstance(cell, tt.GatedCell) else []
        plans = {}
        for cell in made:
            try:
                plans[cell] = plan(cell, dtype)
            except UntraceableError:
                self.counts["not for the native engine"] += 1
        plans = {cell: p for cell, p in plans.items() if p.accumulators}
        compiler = find_compiler()
        assert not isinstance(compiler, str), compiler
        compile_kernels(list(dict.fromkeys(plans.values())), dtype, compiler)
        for number, cell in enumerate(plans):
            self.counts["cells"] += 1
            for _ in range(8):
                self.call(cell, dtype, f"cell {number}")
            for _ in range(24):
                self.misfit(cell, dtype)
        return dict(self.counts)

    def size(self, most: int) -> int:
        return self.random.randint(1, most)

    def chance(self, of: float = 0.5) -> bool:
        return self.random.random() < of

    def inputs(self, time: int, batch: int, width: int, dtype: torch.dtype) -> Tensor:
        """Inputs that lie in memory in one of several ways."""
        shape, kind = (time, batch, width), self.random.randrange(5)
        if kind == 1:
            return torch.randn(batch, time, width, dtype=dtype).transpose(0, 1)
        if kind == 2:
            return torch.randn(width, time, batch, dtype=dtype).movedim(0, -1)
        if kind == 3:
            return torch.randn(time, 1, width, dtype=dtype).expand(shape)
        if kind == 4:
            return torch.randn(time + 2, batch + 1, width + 3, dtype=dtype)[1:-1, 1:, 1:-2]
        return torch.randn(shape, dtype=dtype)

    def call(self, cell: tt.GatedCell, dtype: torch.dtype, where: str) -> None:
        """One call in a random mode, by both engines."""
        self.counts["calls"] += 1
        layer = tt.Recurrent(cell)
        layer.train(self.chance())
        time, batch = self.size(9), self.random.choice([1, 2, 3, 5, 8])
        x = self.inputs(time, batch, cell.input_size, dtype).requires_grad_(self.chance())
        options = {
            "lengths": torch.randint(1, time + 1, (batch,)) if self.chance() else None,
            "reset": torch.rand(time, batch) < 0.3 if self.chance() else None,
            "return_states": self.chance(0.3),
        }
        start = None
        if self.chance(0.3):
            fresh = cell.initial_state(batch, dtype=dtype, device=x.device)
            start = map_state(
                lambda s: (
                    (s + torch.randn(s.shape)).to(s.dtype)[None]
                    if s.is_floating_point()
                    else s[None]
                ),
                fresh,
            )
        for parameter in layer.parameters():
            parameter.requires_grad_(self.chance(0.8))
        mode = self.random.choice(
            ["plain"] * 4 + ["checkpoint"] * 2 + ["budget", "autocast", "double"]
        )
        checkpoint = self.random.choice([1, 2, 4, "sqrt"]) if mode == "checkpoint" else None
        budget = self.random.choice([10**2, 10**4]) if mode == "budget" else None
        if mode == "autocast" and dtype == torch.float64:
            mode = "plain"
        torch.set_num_threads(self.size(4))
        split = self.chance(0.3)
        operators.split_units = lambda *_: 4 if split else 1
        at = self.random.getrandbits(32)
        found: list[list[Tensor] | None] = []
        said = f"{where}, {type(cell).__name__}, {mode}, {options}, {tuple(x.shape)}"
        # what eager does under autocast is another thing, and not for all functions
        for engine in ("native",) if mode == "autocast" else ("native", "eager"):
            layer.engine = engine
            torch.manual_seed(at)
            chooser = random.Random(at)
            of_engine = {} if engine == "eager" else {"checkpoint": checkpoint}
            if budget is not None and engine == "native":
                of_engine = {"memory_budget": budget}
            with (
                recording() as names,
                engine_options(**of_engine),
                torch.autocast("cpu", enabled=mode == "autocast"),
            ):
                try:
                    results = layer(x, start, **options)
                except ConfigurationError as error:
                    if budget is None or "memory_budget" not in str(error):
                        raise
                    return
            assert set(names) == {engine}, said
            terms = [
                t
                for t in state_tensors(tuple(results))
                if t.is_floating_point() and chooser.random() < 0.7
            ]
            try:
                twice = mode == "double" and plan(cell, dtype).derived
                found.append([*terms, *gradients(terms, layer, x, twice)])
            except RuntimeError as error:
                if "is not implemented" not in str(error):  # torch has no second derivative of it
                    raise
                found.append(None)
        if dtype == torch.float64 and None not in found:
            compare(*found, said)

    def misfit(self, cell: tt.GatedCell, dtype: torch.dtype) -> None:
        """A call of an operator with an operand that may not fit."""
        self.counts["ill-fitting calls"] += 1
        time, batch = self.size(5), self.size(4)
        x = torch.randn(time, batch, cell.input_size, dtype=dtype)
        state = cell.initial_state(batch, dtype=dtype, device=x.device)
        streams = (
            ()
            if not cell.streams
            else cell.draw_streams(
                torch.zeros(time, batch, dtype=torch.int64),
                training=True,
                dtype=dtype,
                generator=torch.Generator().manual_seed(0),
            )
        )
        kernel = kernel_of(cell, x.dtype)
        assert kernel is not None
        p = kernel.plan
        segment = self.random.choice([0, 0, 2])
        operands = [t.detach() for t in gather(p, cell, x, state, streams)]
        lengths = torch.randint(1, time + 1, (batch,)) if self.chance(0.3) else None
        ages = torch.randint(0, 9, (time, batch)) if self.chance(0.3) else None
        fields = len(p.memories) + p.depth
        checks = {name: getattr(operators, name) for name in ("check_operands", "_check_backward")}
        if unchecked := self.chance(0.4):  # the compiled code has to find it alone
            for name in checks:
                setattr(operators, name, lambda *_: None)
        try:
            with torch.no_grad():
                if self.chance():
                    wrong = self.wrong([*operands, lengths, ages])
                    operators.sequence(
                        kernel.name, wrong[:-2], *wrong[-2:], self.outputs(), self.chance(), segment
                    )
                else:
                    self.misfit_backward(kernel, operands, lengths, ages, fields, segment)
            self.counts["ill-fitting calls that fit"] += 1
        except ThroughtimeError:
            self.counts["refused"] += 1
        except Exception:
            if not unchecked:
                raise
        finally:
            for name, check in checks.items():
                setattr(operators, name, check)

    def misfit_backward(
        self,
        kernel: Kernel,
        operands: list[Tensor],
        lengths: Tensor | None,
        ages: Tensor | None,
        fields: int,
        segment: int,
    ) -> None:
        p = kernel_named(kernel.name).plan
        save = self.chance(0.9)
        results = operators.sequence(
            kernel.name, operands, lengths, ages, self.outputs(), save, segment
        )
        above = [torch.ones_like(t) for t in results[: fields + 1 + len(p.memories)]]
        given = [bool(t.numel()) and self.chance(0.8) for t in above]
        above = [t for t, there in zip(above, given, strict=True) if there]
        needed = [self.chance(0.8) for _ in operands[: len(operands) - len(p.streams)]]
        kept = list(results[fields:])
        rest = (kept, needed, segment)
        match self.random.randrange(5):
            case 0:
                above = self.wrong(above)
            case 1:
                rest = (self.wrong(kept), needed, segment)
            case 2:
                *operands, lengths, ages = self.wrong([*operands, lengths, ages])
            case 3:
                rest = (kept, needed, self.random.choice([0, 1, 2, 3]))
            case 4:
                given = [*given[1:], True] if self.chance() else given[1:]
        operators.sequence_backward(kernel.name, above, given, operands, lengths, ages, *rest)

    def outputs(self) -> str:
        return self.random.choice(["all", "last", "states"])

    def wrong(self, tensors: list) -> list:
        """The tensors, one of which is changed, or which are not in order."""
        there = [i for i, t in enumerate(tensors) if t is not None]
        if not there:
            return tensors
        i = self.random.choice(there)
        t = tensors[i]
        if self.chance(0.05):
            tensors = list(tensors)
            j = self.random.choice(there)
            tensors[i], tensors[j] = tensors[j], tensors[i]
            return tensors
        kind = self.random.randrange(10)
        if kind == 0:
            new = t[..., : self.random.randint(0, max(t.shape[-1] if t.dim() else 0, 0))]
        elif kind == 1:
            new = t[: self.random.randint(0, len(t) if t.dim() else 0)] if t.dim() else t
        elif kind == 2:
            new = torch.cat([t, t]) if t.dim() else t
        elif kind == 3:
            new = t.reshape(-1)
        elif kind == 4:
            new = t.mT if t.dim() >= 2 else t[None]
        elif kind == 5:
            new = t.to(self.random.choice([torch.float32, torch.float64, torch.int64, torch.bool]))
        elif kind == 6:
            new = t.new_empty(0)
        elif kind == 7:
            new = t[..., :1].expand(t.shape) if t.dim() else t
        elif kind == 8:
            new = torch.as_strided(t, t.shape, [0] * t.dim())
        else:
            new = t * self.random.choice([-1, 0, 2**40]) if t.dtype == torch.int64 else t[None]
        return [*tensors[:i], new, *tensors[i + 1 :]]


def gradients(terms, layer, x, twice: bool) -> list[Tensor]:
    """Of a loss of these results, and if asked for of one of the gradients; zero for all else."""
    leaves = [t for t in (x, *layer.parameters()) if t.requires_grad]

    def of(losses, twice: bool) -> list[Tensor]:
        losses = [t for t in losses if t.requires_grad]
        if not leaves or not losses:
            return [torch.zeros_like(leaf) for leaf in leaves]
        loss = sum(t.double().square().sum() for t in losses)
        return list(
            torch.autograd.grad(
                loss, leaves, create_graph=twice, allow_unused=True, materialize_grads=True
            )
        )

    found = of(terms, twice)
    return [*found, *of(found, False)] if twice else found


def compare(got: list[Tensor], wanted: list[Tensor], said: str) -> None:
    """Raises AssertionError where two engines differ."""
    assert len(got) == len(wanted), said
    for a, b in zip(got, wanted, strict=True):
        size = max(1.0, float(b.detach().abs().nan_to_num(0, 0, 0).max()) if b.numel() else 0.0)
        torch.testing.assert_close(
            a, b, rtol=1e-7, atol=1e-8 * size, equal_nan=True, msg=lambda m: f"{said}: {m}"
        )


def drawn(number: int, count: int) -> list[Recipe]:
    """Recipes of random cells, the same for the same number."""
    found: list[Recipe] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(recipes())
    def draw(recipe):
        found.append(recipe)

    draw()
    return list(dict.fromkeys(found))


def _poisoned(shape, dtype: torch.dtype) -> Tensor:
    """Memory of its own, of its exact size, full of what would show if it were read."""
    tensor = torch.empty(tuple(shape), dtype=dtype)
    return tensor.fill_(torch.nan) if dtype.is_floating_point else tensor.fill_(255)
