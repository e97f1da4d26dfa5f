"""What everything else is built of: the cell, its state, sequences, initialisers, errors."""
