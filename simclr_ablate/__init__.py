"""Re-run the ablation study of SimCLR (Chen et al., ICML 2020), one command per table or figure."""

__version__ = "0.1.0"
