"""What instruments measured, as pictures: one function a result."""

from throughtime.reports.dynamics_pictures import (
    jacobian_products,
    jacobian_steps,
    lyapunov_convergence,
    lyapunov_exponents,
    singular_values_of_products,
)
from throughtime.reports.fixed_point_drawings import eigenvalues, fixed_point_map
from throughtime.reports.gate_pictures import gate_saturation, gate_values, time_constants
from throughtime.reports.gradient_pictures import (
    gradient_by_lag,
    gradient_per_gate,
    gradient_share,
    where_the_loss_looks,
)
from throughtime.reports.instrument_drawings import gradient_by_unit, map_of_colours
from throughtime.reports.map_drawings import (
    basins_of_attraction,
    bifurcation_diagram,
    latch_over_time,
    scalar_map,
)
from throughtime.reports.memory_pictures import (
    change_survival,
    decoded_inputs,
    influence_of_old_inputs,
    loss_by_length,
)
from throughtime.reports.planes import cobweb, regions
from throughtime.reports.training_pictures import loss_curve, norms_over_batches, steepness

__all__ = [
    "basins_of_attraction",
    "bifurcation_diagram",
    "change_survival",
    "cobweb",
    "decoded_inputs",
    "eigenvalues",
    "fixed_point_map",
    "gate_saturation",
    "gate_values",
    "gradient_by_lag",
    "gradient_by_unit",
    "gradient_per_gate",
    "gradient_share",
    "influence_of_old_inputs",
    "jacobian_products",
    "jacobian_steps",
    "latch_over_time",
    "loss_by_length",
    "loss_curve",
    "lyapunov_convergence",
    "lyapunov_exponents",
    "map_of_colours",
    "norms_over_batches",
    "regions",
    "scalar_map",
    "singular_values_of_products",
    "steepness",
    "time_constants",
    "where_the_loss_looks",
]
