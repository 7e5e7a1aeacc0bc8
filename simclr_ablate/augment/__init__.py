"""Batched random views: operations with parameters for each image, and policies made of them."""
