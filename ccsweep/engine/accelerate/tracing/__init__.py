"""A model as graphs, and the chains in them."""
