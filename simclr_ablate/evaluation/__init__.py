"""Evaluation of an encoder: the protocols, and the features, metrics and training that they share."""
