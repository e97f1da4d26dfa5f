"""Studies: comparisons of models on tasks, over seeds, and published ones."""

from throughtime.studies.catalogue import Publication, publication, publications
from throughtime.studies.compare import compare
from throughtime.studies.events import Done, Planned, StudyEvent, StudyObserver, Waiting
from throughtime.studies.plan import default_folder
from throughtime.studies.reproduce import reproduce
from throughtime.studies.request import CompareRequest
from throughtime.studies.specs import split_models

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
