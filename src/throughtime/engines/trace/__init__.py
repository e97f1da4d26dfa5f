"""Tracing: a gated cell as a small program for any device, and its derivative."""
