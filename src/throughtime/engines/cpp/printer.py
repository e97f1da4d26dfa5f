"""The plan of a cell as C++: three functions with the signatures of source/cell.h."""

import math
from collections.abc import Callable, Sequence

from throughtime.engines.trace.program import Key, Program
from throughtime.engines.trace.step_plan import StepPlan

_FORWARD = (
    "(const Step& step, int64_t rows, int64_t unit, int64_t lanes, const real* accumulators, "
    "int64_t stride, int64_t gate_stride, real* const* table)"
)
_BACKWARD = "(const Step& step, int64_t rows, real* const* table)"


def print_cells(plans: Sequence[StepPlan]) -> str:
    """The C++ of some cells; the functions of the i-th: forward_i, inference_i, backward_i."""
    cells = "\n".join(_cell(plan, str(i)) for i, plan in enumerate(plans))
    return f'#include "cell.h"\n#include "functions.h"\n\nusing namespace throughtime;\n\n{cells}'


def _cell(plan: StepPlan, suffix: str) -> str:
    return "\n".join(
        [
            _forward(plan, plan.forward, f"forward_{suffix}"),
            _forward(plan, plan.inference, f"inference_{suffix}"),
            _backward(plan, f"backward_{suffix}"),
        ]
    )


def _forward(plan: StepPlan, program: Program, name: str) -> str:
    rows = _Rows(plan)
    results = [rows.result(i) for i in range(1 + len(plan.memories))]
    targets = [f"row[{i}] + unit" for i in results]
    targets += [
        f"row[{rows.saved}] + {i} * step.hidden + unit"
        for i in range(len(program.outputs) - len(results))
    ]
    stores = [f"store({to}, v{i}, lanes);" for to, i in zip(targets, program.outputs, strict=True)]
    same, each = _statements(plan, program, _forward_leaf)
    return f"""template <bool WHOLE>
static void {name}_of{_FORWARD} {{
    if (WHOLE) lanes = LANES;
    {_indented(same, 4)}
    for (int64_t r = 0; r < rows; r++) {{
        real* const* row = table + r * {rows.count};
        const real* gates = accumulators + r * stride;
        (void)gates, (void)gate_stride;
        {_indented([*each, *stores])}
    }}
}}
extern "C" void {name}{_FORWARD} {{
    (lanes == LANES ? {name}_of<true> : {name}_of<false>)(
        step, rows, unit, lanes, accumulators, stride, gate_stride, table);
}}
"""


def _backward(plan: StepPlan, name: str) -> str:
    rows, program = _Rows(plan), plan.backward
    memories = len(plan.memories)
    values = (f"v{i}" for i in program.outputs)
    stores = [
        f"store(row[{rows.gates}] + {i} * step.hidden + unit, {next(values)}, lanes);"
        for i in range(len(plan.accumulators))
    ]
    stores += [
        f"storeu(row[{rows.carried(1 + m)}] + unit, {next(values)});" for m in range(memories)
    ]
    sums = [f"row[{rows.before}] + unit"] if plan.reads_h else []
    sums += [f"row[{rows.before + 1 + i}] + unit" for i in range(len(plan.pasts))]
    stores += [f"storeu({to}, add(loadu({to}), {next(values)}));" for to in sums]
    of_rows = [
        f"step.parameter_gradients + {i} * step.padded + unit"
        for i in range(len(plan.parameter_gradients))
    ]
    stores += [f"sum{i} = add(sum{i}, {next(values)});" for i in range(len(of_rows))]
    same, each = _statements(plan, program, _backward_leaf)
    same += [f"vec sum{i} = loadu({at});" for i, at in enumerate(of_rows)]
    last = [f"storeu({at}, sum{i});" for i, at in enumerate(of_rows)]
    return f"""template <bool WHOLE>
static void {name}_at(const Step& step, int64_t rows, real* const* table, int64_t unit,
                      int64_t lanes) {{
    if (WHOLE) lanes = LANES;
    {_indented(same, 4)}
    for (int64_t r = 0; r < rows; r++) {{
        real* const* row = table + r * {rows.count};
        {_indented([*each, *stores])}
    }}
    {_indented(last, 4)}
}}
static void {name}_of(const Step& step, int64_t rows, real* const* table) {{
    const int64_t end = step.last_unit;
    int64_t unit = step.first_unit;
    for (; unit + LANES <= end; unit += LANES) {name}_at<true>(step, rows, table, unit, LANES);
    if (unit < end) {name}_at<false>(step, rows, table, unit, end - unit);
}}
extern "C" void {name}{_BACKWARD} {{
    {_order(plan, name, rows.count)}
}}
"""


def _order(plan: StepPlan, name: str, stride: int) -> str:
    """Row by row, as values lie in memory; unit by unit where parameters are then read once."""
    if plan.parameters:
        return f"{name}_of(step, rows, table);"
    return f"for (int64_t r = 0; r < rows; r++) {name}_of(step, 1, table + r * {stride});"


class _Rows:
    """The places of pointers in a row of the table, in the order of source/cell.h."""

    def __init__(self, plan: StepPlan):
        self.plan = plan
        self.memories = len(plan.memories)
        self.first_past = 1 + self.memories
        self.first_stream = self.first_past + len(plan.pasts)
        self.first_result = self.first_stream + len(plan.streams)
        self.saved = self.first_result + 1 + self.memories
        self.first_gradient = self.saved + 1
        self.gates = self.first_gradient + 2 + 2 * self.memories
        self.before = self.gates + 1
        self.count = self.before + 1 + len(plan.pasts)

    def field(self, name: str) -> int:
        """0 for h, then the memories."""
        return 0 if name == "h" else 1 + self.plan.memories.index(name)

    def result(self, field: int) -> int:
        """The place of a field after the step."""
        return self.first_result + field

    def carried(self, field: int) -> int:
        """The place of a field's gradient through later steps."""
        return self.first_gradient + (0 if field == 0 else 1 + field)

    def returned(self, field: int) -> int:
        """The place of a field's gradient through the returned tensors."""
        return self.first_gradient + (1 if field == 0 else 1 + self.memories + field)


def _forward_leaf(rows: _Rows, key: Key) -> str:
    if key.kind == "gate":
        return f"loadu(gates + {key.index} * gate_stride)"
    return _leaf(rows, key)


def _backward_leaf(rows: _Rows, key: Key) -> str:
    if key.kind == "cotangent":
        field = rows.field(key.name)
        carried, returned = rows.carried(field), rows.returned(field)
        return f"add(loadu(row[{carried}] + unit), load(row[{returned}] + unit, lanes))"
    if key.kind == "present":
        return f"broadcast(step.present & {key.index} ? 1 : 0)"
    if key.kind == "saved":
        return f"load(row[{rows.saved}] + {key.index} * step.hidden + unit, lanes)"
    if key.kind == "result":
        return f"load(row[{rows.result(rows.field(key.name))}] + unit, lanes)"
    return _leaf(rows, key)


def _leaf(rows: _Rows, key: Key) -> str:
    plan = rows.plan
    if key.kind == "state":
        return f"load(row[{rows.field(key.name)}] + unit, lanes)"
    if key.kind == "past":
        return f"load(row[{rows.first_past + plan.pasts.index(key.index)}] + unit, lanes)"
    if key.kind == "parameter":
        index = plan.parameters.index((key.name, key.index))
        return f"loadu(step.parameters + {index} * step.padded + unit)"
    if key.kind == "stream":
        row = f"row[{rows.first_stream + key.index}]"
        return f"step.stream_strides[{key.index}] ? load({row} + unit, lanes) : broadcast(*{row})"
    raise AssertionError(f"no such input: {key}")


def _statements(
    plan: StepPlan, program: Program, leaf: Callable[[_Rows, Key], str]
) -> tuple[list[str], list[str]]:
    """A declaration for each node, in order: those that are the same for all rows, and the rest."""
    rows = _Rows(plan)
    same: dict[int, str] = {}
    each: list[str] = []
    for i, node in enumerate(program.nodes):
        if node.operation == "constant":
            assert node.constant is not None
            same[i] = f"const vec v{i} = broadcast({_number(node.constant)});"
        elif node.operation == "input":
            assert node.key is not None
            line = f"const vec v{i} = {leaf(rows, node.key)};"
            if node.key.kind in ("parameter", "present"):
                same[i] = line
            else:
                each.append(line)
        else:
            arguments = ", ".join(f"v{a}" for a in node.arguments)
            # some operations' names are those of functions of the C library
            line = f"const auto v{i} = throughtime::{node.operation}({arguments});"
            if all(a in same for a in node.arguments):
                same[i] = line
            else:
                each.append(line)
    return list(same.values()), each


def _number(value: float) -> str:
    if math.isnan(value):
        return 'real(__builtin_nan(""))'
    if math.isinf(value):
        return f"real({'-' if value < 0 else ''}__builtin_inf())"
    return f"real({value!r})"


def _indented(lines: Sequence[str], by: int = 8) -> str:
    return ("\n" + " " * by).join(lines)
