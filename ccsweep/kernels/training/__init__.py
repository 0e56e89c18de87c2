"""The kernels of a training step, and the step they make up."""
