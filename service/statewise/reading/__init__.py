"""What people give a model to read → the inputs of its timesteps, and what its cells do meanwhile; for commands and console."""
