"""Studies: comparisons of models on tasks, over seeds, and published ones."""

from throughtime.core.registry import split_models
from throughtime.studies.compare import compare
from throughtime.studies.literature import Publication, publication, publications, reproduce
from throughtime.studies.plan import default_folder
from throughtime.studies.request import CompareRequest
from throughtime.studies.worker import Done, Planned, StudyEvent, StudyObserver, Waiting

__all__ = [
    "CompareRequest",
    "Done",
    "Planned",
    "Publication",
    "StudyEvent",
    "StudyObserver",
    "Waiting",
    "compare",
    "default_folder",
    "publication",
    "publications",
    "reproduce",
    "split_models",
]
