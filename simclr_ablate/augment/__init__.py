"""Batched random views: operations with parameters per image, and the policies made of them."""
