"""Carry out a plan, on this machine or a cluster, and show its progress."""
