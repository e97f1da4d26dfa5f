"""What does not fit a kernel is refused by name: in Python, and again in the compiled code."""

import pytest
import torch
from cells.samples import MultiplicativeIntegration, StreamedCell

import throughtime as tt
from throughtime.core.errors import DeviceError, DtypeError, ShapeError, StateError
from throughtime.engines.cpp import operators
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.cpp.engine import kernel_of
from throughtime.engines.cpp.operands import gather

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")

TIME, BATCH, HIDDEN = 4, 2, 5
ERRORS = (ShapeError, DtypeError, DeviceError)
PAST_THE_DISPATCHER = {
    operators.sequence: operators.run_forward,
    operators.sequence_backward: operators.run_backward,
}


def call(kind, **options):
    """The kernel and the operands of a run, all of which require gradients where they can."""
    torch.manual_seed(0)
    cell = tt.Recurrent(kind, 3, HIDDEN, dtype=torch.float64, **options).as_cell()
    x = torch.randn(TIME, BATCH, 3, dtype=torch.float64, requires_grad=True)
    state = cell.initial_state(BATCH, dtype=x.dtype, device=x.device)
    streams = (
        ()
        if not cell.streams
        else cell.draw_streams(
            torch.zeros(TIME, BATCH, dtype=torch.int64),
            training=True,
            dtype=x.dtype,
            generator=torch.Generator().manual_seed(0),
        )
    )
    kernel = kernel_of(cell, x.dtype)
    return kernel, gather(kernel.plan, cell, x, state, streams)


def misfits(tensor):
    """Versions of a tensor that do not fit in its place."""
    yield tensor[..., :-1]
    yield torch.cat([tensor, tensor[:1]])
    yield tensor[:0]
    yield tensor.reshape(-1, 1, 1, 1)
    yield tensor.float() if tensor.is_floating_point() else tensor.int()
    yield tensor.to("meta")
    if tensor.dim() == 2 and tensor.shape[0] != tensor.shape[1]:
        yield tensor.T


def replaced(tensors, i, tensor):
    return [*tensors[:i], tensor, *tensors[i + 1 :]]


def refused(operator, *arguments):
    """A typed error; the dispatcher itself sends what lies on another device elsewhere."""
    if any(t.is_meta for a in arguments if isinstance(a, list) for t in a if torch.is_tensor(t)):
        operator = PAST_THE_DISPATCHER[operator]
    with torch.no_grad(), pytest.raises(ERRORS):
        operator(*arguments)


KINDS = [tt.cells.LSTMCell, StreamedCell, MultiplicativeIntegration]


@pytest.mark.parametrize("kind", KINDS)
def test_every_operand(kind) -> None:
    kernel, operands = call(kind)
    lengths, ages = torch.tensor([4, 2]), torch.ones(TIME, BATCH, dtype=torch.int64)

    def forward(tensors, lengths=lengths, ages=ages):
        return kernel.name, tensors, lengths, ages, "all", True, 0

    operators.sequence(*forward(operands))
    for i, operand in enumerate(operands):
        for misfit in misfits(operand.detach()):
            if i != 0 or misfit.shape[1:] != operand.shape[1:] or misfit.dtype != operand.dtype:
                refused(operators.sequence, *forward(replaced(operands, i, misfit)))
    refused(operators.sequence, *forward(operands[:-4]))
    refused(operators.sequence, *forward([*operands, *operands]))
    for wrong in (lengths[:1], lengths.float(), lengths[None], lengths + 1, lengths * 0):
        refused(operators.sequence, *forward(operands, lengths=wrong))
    for wrong in (ages[:1], ages.T, ages.int()):
        refused(operators.sequence, *forward(operands, ages=wrong))


@pytest.mark.parametrize("segment", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_gradient_and_kept_tensor(kind, segment) -> None:
    kernel, operands = call(kind)
    streams = len(kernel.plan.streams)
    found = operators.sequence(kernel.name, operands, None, None, "states", True, segment)
    found = [t.detach() for t in found]
    memories = len(kernel.plan.memories)
    fields = memories + kernel.plan.depth
    above, kept = [torch.ones_like(t) for t in found[: fields + 1 + memories]], found[fields:]
    given, needed = [True] * len(above), [True] * (len(operands) - streams)

    def backward(above=above, given=given, operands=operands, kept=kept, needed=needed):
        return kernel.name, above, given, operands, None, None, kept, needed, segment

    operators.sequence_backward(*backward())
    for name, tensors in (("above", above), ("kept", kept), ("operands", operands)):
        for i, tensor in enumerate(tensors):
            for misfit in misfits(tensor.detach()) if tensor.numel() else [torch.ones(3)]:
                refused(
                    operators.sequence_backward, *backward(**{name: replaced(tensors, i, misfit)})
                )
    refused(operators.sequence_backward, *backward(given=given[:-1]))
    refused(operators.sequence_backward, *backward(given=[*given[:-1], False]))
    refused(operators.sequence_backward, *backward(needed=needed[:-1]))
    refused(operators.sequence_backward, *backward(kept=kept[:-1]))
    if not segment:  # as of a run that kept nothing
        nothing = operators.sequence(kernel.name, operands, None, None, "last", False, 0)[fields:]
        refused(operators.sequence_backward, *backward(kept=[t.detach() for t in nothing]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_compiled_code_compares_sizes_itself(kind, monkeypatch) -> None:
    """Without the checks in Python, each misfit is found before any pointer is used."""
    for name in ("check_operands", "_check_backward"):
        monkeypatch.setattr(operators, name, lambda *_: None)
    kernel, operands = call(kind)
    fields = len(kernel.plan.memories) + kernel.plan.depth
    found = operators.sequence(kernel.name, operands, None, None, "states", True, 0)
    above = [torch.ones_like(t) for t in found[: fields + 1 + len(kernel.plan.memories)]]
    rest = [found[fields:], [True] * (len(operands) - len(kernel.plan.streams)), 0]
    sizes = r"of a compiled call: got .* need"
    with torch.no_grad():
        for i in range(1, len(operands)):
            if i == len(operands) - len(kernel.plan.streams) - fields:
                continue  # h: it says itself how many units there are
            for wrong in (operands[i].reshape(-1)[:-1], operands[i].repeat(2, *[1] * 2)):
                wrong = wrong if wrong.dim() == 3 else wrong[:, None, None]
                args = [kernel.name, replaced(operands, i, wrong), None, None, "all", True, 0]
                with pytest.raises(ShapeError, match=sizes):
                    operators.sequence(*args)
        for i, tensor in enumerate(above):
            wrong = replaced(above, i, tensor[:-1].contiguous())
            with pytest.raises(ShapeError, match=sizes):
                operators.sequence_backward(
                    kernel.name, wrong, [True] * len(above), operands, None, None, *rest
                )
        for i, tensor in enumerate(rest[0]):
            if tensor.numel():
                wrong = replaced(rest[0], i, tensor[:-1].contiguous())
                with pytest.raises(ShapeError, match=sizes):
                    operators.sequence_backward(
                        kernel.name, above, [True] * len(above), operands, None, None, wrong,
                        *rest[1:],
                    )  # fmt: skip
        for lengths in ([5, 1], [0, 1], [-1, 1]):
            with pytest.raises(ShapeError, match="lengths of a compiled call"):
                operators.sequence(
                    kernel.name, operands, torch.tensor(lengths), None, "all", False, 0
                )


@pytest.mark.parametrize("segment", [0, 3])
@pytest.mark.parametrize("lengths", [None, [4, 2]])
def test_a_run_that_kept_nothing_is_run_again(lengths, segment) -> None:
    """As where a program was captured without gradients, and gets an input that has one."""
    kernel, operands = call(MultiplicativeIntegration)
    lengths = None if lengths is None else torch.tensor(lengths)
    wanted = [t for t in operands if t.requires_grad]
    found = []
    for save in (True, False):
        results = operators.sequence(kernel.name, operands, lengths, None, "all", save, segment)
        loss = sum(t.square().sum() for t in results[: len(kernel.plan.memories) + 2])
        found.append(torch.autograd.grad(loss, wanted, create_graph=True))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("engine", ["native", "eager", "vendor", "auto"])
@pytest.mark.parametrize("transposed", [False, True])
def test_weights_of_another_shape(engine, transposed) -> None:
    layer = tt.LSTM(3, 4, engine=engine)
    x = torch.ones(5, 2, 3)
    for name, parameter in layer.named_parameters():
        wrong = parameter.detach().t().contiguous() if transposed else parameter.detach()[:-1]
        if wrong.shape == parameter.shape:
            continue
        with pytest.raises(ShapeError, match=rf"{name}: got shape .*as at construction. Make a"):
            torch.func.functional_call(layer, {name: wrong}, (x,))
    layer.weight_hh_l0 = torch.nn.Parameter(layer.weight_hh_l0.detach()[:8, :2].contiguous())
    with pytest.raises(ShapeError, match=r"weight_hh_l0: got shape \(8, 2\)"):
        layer(x)


def test_a_parameter_on_another_device() -> None:
    layer = tt.LSTM(3, 4)
    layer.bias_hh_l0 = torch.nn.Parameter(layer.bias_hh_l0.detach().to("meta"))
    with pytest.raises(DeviceError, match="bias_hh_l0: got device meta"):
        layer(torch.ones(5, 2, 3))


class OfOneSequence(tt.GatedCell):
    """A cell whose streams, or initial state, have another batch axis than its inputs."""

    gates = 1
    streams = ("keep",)

    def __init__(self, *sizes, form, **options):
        super().__init__(*sizes, **options)
        self.form = form

    def draw_streams(self, steps, *, training, dtype, generator):
        time, batch = steps.shape
        sizes = {"T": time, "B": batch, "H": self.hidden_size, "1": 1}
        shape = [sizes[axis] for axis in self.form]
        return (torch.rand(shape, generator=generator, dtype=dtype),)

    def pointwise(self, x, u, state, streams):
        return (x[0] + u[0]).tanh() * streams[0]


@pytest.mark.parametrize("form", ["T1H", "T11", "TB1"])
@pytest.mark.parametrize("lengths", [None, [3, 6]])
def test_streams_that_are_broadcast(form, lengths) -> None:
    layer = tt.Recurrent(OfOneSequence, 3, 5, form=form, engine="native", dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    found = []
    for engine in ("native", "eager"):
        layer.engine = engine
        torch.manual_seed(1)
        found.append(layer(x, lengths=lengths)[0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("form", ["TB", "TH", "1BH"])
def test_streams_that_do_not_fit(form, unchecked) -> None:
    layer = tt.Recurrent(OfOneSequence, 3, 5, form=form)
    with pytest.raises(ShapeError, match="stream 0 of OfOneSequence: got shape"):
        layer(torch.ones(6, 2, 3))


class OneStart(tt.GatedCell):
    gates = 1

    def initial_state(self, batch_size, *, dtype, device):
        return super().initial_state(1, dtype=dtype, device=device)

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).tanh()


def test_an_initial_state_of_one_sequence() -> None:
    with pytest.raises(
        StateError, match=r"initial_state of OneStart: got a tensor of shape \(1, 5"
    ):
        tt.Recurrent(OneStart, 3, 5)(torch.ones(6, 2, 3))


class Cut(tt.GatedCell):
    gates = 1

    def recurrent_matrix(self, lag):
        return self.weight_hh[:, :3]

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).tanh()


def test_a_recurrent_matrix_of_another_shape() -> None:
    with pytest.raises(ShapeError, match=r"recurrent_matrix\(1\) of weight_hh: got shape \(5, 3\)"):
        tt.Recurrent(Cut, 3, 5, engine="native")(torch.ones(6, 2, 3))


@pytest.mark.parametrize("kept", [0, 0.5])
@pytest.mark.parametrize("late", [False, True])
def test_a_storage_that_was_made_smaller(kept, late) -> None:
    layer, x = tt.LSTM(3, 4, engine="native"), torch.ones(5, 2, 3)
    output = layer(x)[0]
    storage = layer.weight_hh_l0.untyped_storage()
    storage.resize_(int(kept * storage.nbytes()))
    with pytest.raises(ShapeError, match="weight_hh of a compiled call"):
        output.sum().backward() if late else layer(x)
