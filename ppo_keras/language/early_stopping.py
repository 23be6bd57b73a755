"""When a supervised stage ends, and how one that was stopped goes on."""

import keras

from ppo_keras.checkpoints import (
    changing,
    from_json,
    into_variables,
    learned_weights,
    of_json,
    of_variables,
    pack,
    readable,
    set_learned_weights,
    unpack,
)


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras's, at the lowest `val_cross_entropy`; after every epoch it saves all that a stopped stage needs to go on exactly.

    Args:
        patience: epochs without a better one.
        files: a `StateFiles`; None saves nothing.
    """

    def __init__(self, patience, files=None):
        super().__init__("val_cross_entropy", mode="min", patience=patience)  # it would copy frozen weights, too
        self.files, self.history, self.epochs, self.saved, self.best_weights = files, {}, 0, None, None

    def restore_last(self, model):
        """Puts a compiled model, and this callback, back to where the stage stopped; nothing where it never began."""
        self.set_model(model)
        state = self.files.read() if self.files else None
        if state is None:
            return
        with readable(self.files, state.number):
            into_variables(_state_of(model), unpack(state.arrays, "model"))
            weights = unpack(state.arrays, "best_weights")
            facts = from_json(state.arrays["facts"]) | {"best_weights": [weights[str(i)] for i in range(len(weights))]}
            self.epochs, self.history = state.number, facts.pop("history")
            self.saved, self.stopped_epoch = facts, facts["stopped_epoch"]

    def ended(self, epochs):
        """Whether the stage, of so many epochs at most, is over; the model then has its best weights."""
        if self.epochs < epochs and not self.stopped_epoch:
            return False
        set_learned_weights(self.model, self.saved["best_weights"])
        return True

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        vars(self).update(self.saved or {})

    def on_epoch_begin(self, epoch, logs=None):
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1

    def on_epoch_end(self, epoch, logs=None):
        if self.steps < self.params["steps"]:  # cut short by Ctrl-C: it is done again
            return
        super().on_epoch_end(epoch, logs)
        if self.best_weights is None or self.best_epoch == epoch:
            self.best_weights = learned_weights(self.model)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        self.epochs = epoch + 1
        if self.files:
            facts = {name: getattr(self, name) for name in ("wait", "best", "best_epoch", "stopped_epoch")}
            parts = {"model": of_variables(_state_of(self.model)), "best_weights": dict(enumerate(self.best_weights))}
            self.files.write(self.epochs, pack(parts) | {"facts": of_json(facts | {"history": self.history})})

    def on_train_end(self, logs=None):
        if self.best_weights is not None:
            set_learned_weights(self.model, self.best_weights)


def _state_of(model):
    """Every variable of a compiled model that training changes, the optimizer's and those of dropout too."""
    return [*changing(model, model.variables), *model.optimizer.variables]
