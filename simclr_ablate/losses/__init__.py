"""Contrastive losses; none of them holds the 2N x 2N matrix of similarities."""
