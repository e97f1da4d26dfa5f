"""The doctor: why a recurrent network does not remember, and what to change."""

from throughtime.doctor.diagnose import diagnose
from throughtime.doctor.history import History
from throughtime.results.diagnosis import Cause, Diagnosis, Estimate, Finding, Remedy

__all__ = ["Cause", "Diagnosis", "Estimate", "Finding", "History", "Remedy", "diagnose"]
