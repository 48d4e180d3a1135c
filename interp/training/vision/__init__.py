"""Forgetting of images, and what it takes to bring them back (Siddiqui et al. 2025).

- `load_images`, `draw_train`, `memorization`, `forget_highest`: a `Task` for each run.
- `Cnn.draw`, `train_on`: small networks of many seeds at once; retraining is the gold standard.
- `METHODS`, `unlearn`: losses and changes of weights that are said to forget.
- `relearn`, `reestimate`: what comes back, and what comes back without training.
- `distance`, `linear_path`: how far the weights moved.
"""

from interp.training.vision.connectivity import LinearPath, distance, linear_path
from interp.training.vision.memorization import memorization
from interp.training.vision.methods import METHODS, Method, unlearn
from interp.training.vision.networks import Cnn, Network, Networks
from interp.training.vision.relearning import ATTACK, Relearning, accuracy, reestimate, relearn
from interp.training.vision.tasks import Images, Task, draw_train, forget_highest, load_images
from interp.training.vision.training import (
    PRETRAINING,
    Batch,
    Schedules,
    Step,
    Trained,
    train_on,
    train_to_forget,
)

__all__ = [
    "ATTACK",
    "METHODS",
    "PRETRAINING",
    "Batch",
    "Cnn",
    "Images",
    "LinearPath",
    "Method",
    "Network",
    "Networks",
    "Relearning",
    "Schedules",
    "Step",
    "Task",
    "Trained",
    "accuracy",
    "distance",
    "draw_train",
    "forget_highest",
    "linear_path",
    "load_images",
    "memorization",
    "reestimate",
    "relearn",
    "train_on",
    "train_to_forget",
    "unlearn",
]
