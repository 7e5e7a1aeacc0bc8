"""The tasks: pretraining an encoder, evaluating it, and choosing the best candidate."""
