"""Whole steps of any cell, compiled."""
