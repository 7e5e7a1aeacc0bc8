"""Re-run the ablation study of SimCLR (Chen et al., ICML 2020), one command per table or figure."""

from pathlib import Path

__version__ = "0.2.0.dev0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "analysis").is_dir():
    # A checkout has the folder `analysis` beside this package. Installed, it is inside. Either way it can be imported
    # as `simclr_ablate.analysis`, a name that no module of a user's has.
    __path__.append(str(_HERE.parent))
