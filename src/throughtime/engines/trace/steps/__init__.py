"""A whole step of any cell as a program of products, elementwise operations and reductions."""
