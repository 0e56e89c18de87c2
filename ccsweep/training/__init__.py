"""Training a conditional network with Lightning."""
