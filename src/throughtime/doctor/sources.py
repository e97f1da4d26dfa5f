"""Sources of a model on the command line: a function of the user's, or the folder of a run."""

import contextlib
import importlib.util
import inspect
import itertools
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim import Optimizer

from throughtime.core.errors import ConfigurationError, RunError, UnknownNameError, suggestion
from throughtime.doctor.history import History
from throughtime.doctor.subject import HELD_OUT
from throughtime.foreign import recurrent_layers
from throughtime.results.fields import of_type
from throughtime.structures import Forest
from throughtime.tasks import DialogueBatch, SequenceBatch, TreeBatch
from throughtime.tasks.kinds import Dialogues, Frames, Images, Pairs, Stories, Trees
from throughtime.tasks.vocabulary import Vocabulary
from throughtime.training import RunConfig, RunFolder, load_model, read_metrics
from throughtime.training.generator import vocabularies_of
from throughtime.training.optimizers import build_optimizer

_BATCHES = 64
_OPTIONS = (
    *("lag", "layer", "training_step", "optimizer", "history", "unseen"),
    "free_running",
)
_STREAM_STEPS = 200  # of a stream's chunk, the most that are used
_FRESH = 10_000_000  # a step that no training reaches: its batches are new to the model


class DiagnosisInput(NamedTuple):
    """Arguments of `diagnose`.

    Attributes:
        model, batches, loss_fn: the arguments of these names.
        options: further arguments.
        vocabularies: names of the symbols of a task with text.
    """

    model: nn.Module
    batches: Any
    loss_fn: Any
    options: Mapping[str, Any]
    vocabularies: Mapping[str, Vocabulary] = {}


def from_text(source: str, command: str = "diagnose") -> DiagnosisInput:
    """Return the input of a diagnosis by "my_project.py:make" or by the folder of a run.

    Arguments:
        source: Python file and the name of a function in it that returns (model, batches, loss), or
            (model, batches, loss, options) with options a dict of further arguments; it is run. Or
            a folder that `throughtime train` or `compare` wrote.
        command: Command that an error message suggests, "diagnose" or "inspect".

    Raises:
        ConfigurationError: source is neither; or the function raises, exits or returns something
            else; or the folder is no run's: the message lists the runs in it.
        RunError: the folder holds no trained run.
    """
    file, colon, name = source.rpartition(":")
    if colon and file.endswith(".py"):
        return from_function(Path(file), name)
    folder = Path(source)
    if folder.is_dir():
        return from_run(folder, command)
    raise ConfigurationError(
        f"the model to {command}",
        got=repr(source),
        expected="my_project.py:make, or the folder of a run",
        fix="make() returns (model, batches, loss).",
    )


def from_function(file: Path, name: str) -> DiagnosisInput:
    """Run the user's function. The file's folder is importable while it runs, as for `python`."""
    if not file.is_file():
        raise ConfigurationError("Python file", got=str(file), expected="a file that is there")
    # by another name where a loaded module has this one, as one of Python's own may have
    module_name = file.stem if file.stem not in sys.modules else f"{file.stem} of the user"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # as an import would: classes are copied by their module
    sys.path.insert(0, str(file.resolve().parent))
    _of_the_user(f"{file}", file, lambda: loader.exec_module(module))
    make: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(make):
        functions = [each for each, value in vars(module).items() if inspect.isfunction(value)]
        fix = suggestion(name, functions)
        raise ConfigurationError(f"{file}", got=f"no function {name!r}", expected="one", fix=fix)
    made = _of_the_user(f"{file}:{name}", file, make)
    if inspect.iscoroutine(made):
        made.close()  # or Python warns that nobody awaited it
    if not isinstance(made, tuple) or len(made) not in (3, 4) or not isinstance(made[0], nn.Module):
        kinds = (
            ", ".join(type(part).__name__ for part in made)
            if isinstance(made, tuple)
            else type(made).__name__
        )
        raise ConfigurationError(
            f"{file}:{name}",
            got=f"({kinds})",
            expected="(model, batches, loss) or (model, batches, loss, options)",
        )
    model, batches, loss_fn, *rest = made
    options = rest[0] if rest else {}
    if not isinstance(options, Mapping):
        raise ConfigurationError(
            f"options of {file}:{name}", got=type(options).__name__, expected="a dict"
        )
    for option in options:
        if option not in _OPTIONS:
            raise UnknownNameError(f"option of {file}:{name}", str(option), _OPTIONS)
    return DiagnosisInput(model, batches, loss_fn, options)


def _of_the_user(where: str, file: Path, call: Callable[[], Any]) -> Any:
    """Return the result of the user's code. An exception in it becomes an error with its line."""
    try:
        return call()
    except SystemExit as error:
        raise ConfigurationError(
            where, got=f"sys.exit({error.code!r})", expected="(model, batches, loss)"
        ) from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        here = file.resolve()
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == here]
        at = f" (line {lines[-1]})" if lines else ""
        raise ConfigurationError(
            where, got=f"{type(error).__name__}: {error}{at}", expected="(model, batches, loss)"
        ) from error


@contextlib.contextmanager
def exits_refused() -> Iterator[None]:
    """Run the block, in which the user's model, batches and loss run.

    Raises:
        ConfigurationError: The block calls sys.exit. Its exit code would pass for the command's.
    """
    try:
        yield
    except SystemExit as stop:
        raise ConfigurationError(
            "the model, the batches or the loss",
            got=f"sys.exit({stop.code!r})",
            expected="code that returns",
        ) from stop


class FlatDialogues(NamedTuple):
    """A batch of dialogues whose turns and steps are one axis, before that of the samples.

    Attributes:
        symbols, targets: (turn * time, batch).
        lengths: (turn, batch).
    """

    symbols: Tensor
    targets: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, batch: DialogueBatch) -> "FlatDialogues":
        """Return the batch in this form."""
        return cls(batch.symbols.flatten(0, 1), batch.targets.flatten(0, 1), batch.lengths)

    def dialogues(self) -> DialogueBatch:
        """Return the batch as the task takes it."""
        turns = len(self.lengths)
        symbols, targets = (t.unflatten(0, (turns, -1)) for t in (self.symbols, self.targets))
        return DialogueBatch(symbols, self.lengths.cpu(), targets)


_BEYOND = -2  # the place of a node behind the last one of a tree
_PLACES = 1 << 20  # more than a node has children


class PaddedTrees(NamedTuple):
    """A batch of trees whose nodes are an axis, before that of the samples.

    The shape of a tree is one tensor: any column of it is a tree.

    Attributes:
        symbols, targets: (node, tree); -1 where there is none.
        shapes: (node, tree) number of the parent within the tree and place among its children, as
            one number; -1 for the root.
    """

    symbols: Tensor
    shapes: Tensor
    targets: Tensor

    @classmethod
    def of(cls, batch: TreeBatch) -> "PaddedTrees":
        """Return the batch in this form."""
        trees, sizes = batch.trees, batch.trees.sizes.tolist()
        starts = torch.repeat_interleave(trees.sizes.cumsum(0) - trees.sizes, trees.sizes)
        shapes = torch.full_like(trees.inputs, -1)
        parents, children = trees.edges.unbind(1)
        shapes[children] = (parents - starts[children]) * _PLACES + trees.positions
        fields = ((trees.inputs, -1), (shapes, _BEYOND), (batch.labels, -1))
        return cls(*(pad_sequence([*f.split(sizes)], padding_value=fill) for f, fill in fields))

    def trees(self) -> TreeBatch:
        """Return the batch as the task takes it."""
        there = (self.shapes > _BEYOND).T
        sizes = there.sum(1)
        starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
        symbols, shapes, labels = (field.T[there] for field in self)
        children = (shapes >= 0).nonzero()[:, 0]
        parents, places = shapes[children] // _PLACES, shapes[children] % _PLACES
        edges = torch.stack([parents + starts[children], children], 1)
        return TreeBatch(Forest.of(symbols, edges, sizes, positions=places), labels)


def from_run(folder: Path, command: str = "diagnose") -> DiagnosisInput:
    """Return a run's model, fresh batches of its task, its training and the record of it.

    Raises:
        ConfigurationError: the model reads stories, and has no recurrent layer.
    """
    if not RunFolder(folder).config.exists():
        raise _no_single_run(folder, command)
    config, task, model = load_model(folder)
    if isinstance(task.inputs, Stories) and not recurrent_layers(model):
        # its hops would pass for steps of time
        raise ConfigurationError(
            f"the model to {command}",
            got=f"{type(model).__name__}, which has no recurrent layer",
            expected="on stories, a run of a cell, which reads them word by word",
            fix="The report of throughtime compare shows which sentences each hop reads.",
        )
    endless = task.batches("training", config.batch_size, seed=config.seed, start=_FRESH)
    batches: list[Any] = [*itertools.islice(endless, _BATCHES)]
    # of pairs and dialogues, the dependency goes through several layers, each with a part of it; of
    # trees, it is a depth;
    # sequences of frames and stories may all be shorter than the longest one
    # an image has no order
    several = Pairs | Dialogues | Frames | Images | Stories | Trees
    lag = None if isinstance(task.inputs, several) else task.dependency_length
    if task.stream:  # whose chunks can be cut anywhere
        batches = [_start_of(batch) for batch in batches]
        lag = None if lag is None else min(lag, _STREAM_STEPS - 1)

    if isinstance(task.inputs, Dialogues):
        batches = [FlatDialogues.of(batch) for batch in batches]
    if isinstance(task.inputs, Trees):
        batches = [PaddedTrees.of(batch) for batch in batches]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        whole = batch.dialogues() if isinstance(batch, FlatDialogues) else batch
        whole = whole.trees() if isinstance(whole, PaddedTrees) else whole
        return task.score(model, whole).loss

    rows: list[Any] = [row for row in read_metrics(folder) if row.get("kind") == "train"]
    try:
        history = History(
            losses=[of_type(float, row.get("loss"), "loss") for row in rows],
            gradient_norms=[
                of_type(float, row.get("gradient_norm"), "gradient_norm") for row in rows
            ],
        )
    except TypeError as error:
        raise RunError(
            f"a row of {RunFolder(folder).metrics} is damaged",
            got=str(error),
            expected="finite numbers",
            fix="Bring the file back from a copy.",
        ) from error
    new = round(HELD_OUT * len(batches))  # all are
    options = {"lag": lag, "history": history, "unseen": batches[:new]}
    if (config.learner, config.gradient_propagation, config.sparse_outputs) == ("bptt", 0, 0):
        options |= _own_training(config, loss)
    return DiagnosisInput(model, batches[new:], loss, options, vocabularies_of(task))


def _own_training(
    config: RunConfig, loss: Callable[[nn.Module, Any], Tensor]
) -> dict[str, Callable[..., Any]]:
    """Return the step and the optimiser of a run, with the largest learning rate."""

    def training_step(model: nn.Module, optimizer: Optimizer, batch: Any) -> Tensor:
        value = loss(model, batch)
        optimizer.zero_grad()
        value.backward()
        if config.clip_value is not None:
            nn.utils.clip_grad_value_(model.parameters(), config.clip_value)
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        return value

    def optimizer(model: nn.Module) -> Optimizer:
        return build_optimizer(
            config.optimizer, model.parameters(), config.learning_rate, config.optimizer_options
        )

    return {"training_step": training_step, "optimizer": optimizer}


def _start_of(batch: SequenceBatch) -> SequenceBatch:
    return SequenceBatch(batch.inputs[:_STREAM_STEPS], batch.targets[:_STREAM_STEPS])


def _no_single_run(folder: Path, command: str) -> ConfigurationError:
    """Return the error about a folder that is no run's, with commands for the runs in it."""
    patterns = ("*/config.json", "*/*/config.json", "*/*/*/config.json")
    files = [RunFolder(f.parent) for pattern in patterns for f in sorted(folder.glob(pattern))]
    runs = [files.path for files in files if files.latest.exists()]
    commands = [f"  throughtime {command} {shlex.quote(str(run))}" for run in runs]
    return ConfigurationError(
        f"{folder} is not the folder of a run",
        got=f"{len(runs)} trained run{'' if len(runs) == 1 else 's'} in it",
        expected="one run: a folder with config.json and a checkpoint",
        fix="\n".join([f"{command.capitalize()} one of them:", *commands]) if runs else "",
    )
