"""What the paper's labels are in a config."""

LOSSES = {
    "Margin": ("margin_triplet", False),
    "NT-Logi.": ("nt_logistic", False),
    "Margin (sh)": ("margin_triplet", True),
    "NT-Logi.(sh)": ("nt_logistic", True),
    "NT-Xent": ("nt_xent", False),
}
"""Columns of Table 4: `loss.name` and `loss.semi_hard`."""

EXTRA = {"color": None, "rotation": "rotate", "noise": "noise", "sobel": "sobel"}
"""Rows of Table 3, in its order: `evaluation.probe`, and the `views.extra` that goes with it."""
