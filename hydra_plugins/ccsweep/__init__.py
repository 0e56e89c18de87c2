"""What Hydra finds of this project."""
