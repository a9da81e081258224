"""Training: data → a network with its best weights (`Trained`), by the one loop in `loop`.

`train_forecast`, `train_classify` and `train_tokens` are the doors; `settings` holds every choice, `lanes` lays sequences
side by side, `checkpoint` makes a run resumable.
"""

from statewise_models.training.classify import train_classify
from statewise_models.training.forecast import train_forecast
from statewise_models.training.history import Epoch
from statewise_models.training.loop import Diverged, Observer
from statewise_models.training.settings import TrainingSettings
from statewise_models.training.start import Start
from statewise_models.training.tokens import train_tokens
from statewise_models.training.trained import Trained

__all__ = [
    "Diverged",
    "Epoch",
    "Observer",
    "Start",
    "Trained",
    "TrainingSettings",
    "train_classify",
    "train_forecast",
    "train_tokens",
]
