"""The base of the package: the cell, its state, sequences, initialisers, errors."""
