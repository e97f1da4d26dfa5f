"""Planted faults for `throughtime.diagnose`: `python -m benchmarks.doctor build|run|matrix`."""
