"""Speed and memory beside other libraries (lightly, kornia), as ratios measured in one run."""
