"""The tasks that experiments are made of: pretraining an encoder, and evaluating it."""
