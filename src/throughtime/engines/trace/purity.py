"""The modules that a function may use without reading anything that changes."""


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# Modules whose functions depend on their arguments alone. Of torch, those parts that compute.
PURE = words(
    """math cmath operator _operator functools _functools itertools typing typing_extensions types
    collections abc dataclasses enum numbers fractions string copy builtins numpy contextlib
    jaxtyping beartype throughtime torch"""
)
_PARTS = words(
    """torch.nn torch.nn.functional torch.special torch.linalg torch.fft torch.autograd torch.jit
    torch.autograd.function torch.nn.modules torch.nn.init torch.nn.utils torch._C._nn
    torch._C._special torch.types torch.overrides torch.functional torch._refs"""
)
STATE_OF_TORCH = words("seed initial_seed default_generator compiler distributed")
OF_GRAPHS = words(
    """requires_grad grad_fn is_leaf grad retains_grad is_inference data_ptr untyped_storage storage
    _version"""
)
BLIND = words(
    """globals locals vars eval exec open input __import__ compile id dir breakpoint setattr delattr
    memoryview"""
)
OF_INTERPRETERS = words("__globals__ __builtins__ f_globals f_locals f_builtins gi_frame")
ALL_NAMES = words("getattr hasattr attrgetter methodcaller vars")
FILES = words("load fromfile loadtxt genfromtxt memmap from_file")
SETTINGS_OF_NUMPY = words("geterr geterrcall get_printoptions getbufsize")
_PREDICATES = words(
    """is_tensor is_floating_point is_complex is_nonzero is_signed is_conj is_neg is_same_size
    is_storage"""
)


def reads_a_mode(name: str) -> bool:
    """True if a function of torch, by its name, returns a mode or a setting."""
    if name in _PREDICATES:
        return False
    return name.startswith(("is_", "get_", "are_", "_is_", "_get_")) or name in (
        "initial_seed",
        "seed",
    )


def is_pure(module: str) -> bool:
    """True if a module's functions depend on their arguments alone, with the exceptions above."""
    if module in PURE or module in _PARTS:
        return True
    top = module.partition(".")[0]
    if top == "numpy":
        return not module.startswith("numpy.random")
    return (top in PURE and top != "torch") or module.startswith("torch.nn.modules")
