"""Speed and memory beside the peers (lightly, kornia), as ratios measured in one run."""
