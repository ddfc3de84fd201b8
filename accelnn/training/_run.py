"""A call of `fit` under way."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from accelnn._progress import Advance
from accelnn._underflow import rounds_to_zero
from accelnn._validation import check_finite, positive_int
from accelnn.backends import (
    Dataset,
    MemoryFor,
    Optimizer,
    TrainingState,
    get_backend,
    pass_bytes,
)
from accelnn.backends._arrays import slices
from accelnn.errors import DivergenceWarning
from accelnn.formulas._dropout import Dropout
from accelnn.nets import Net
from accelnn.training._checkpoint import Checkpoint, Saver, states_of
from accelnn.training._hints import Watch
from accelnn.training._history import History
from accelnn.training._hooks import Hooks
from accelnn.training._interrupt import Interrupts
from accelnn.training._plan import Generator
from accelnn.training._prepare import dataset_for
from accelnn.training._resume import Ending, identity
from accelnn.training._streams import StreamedDataset

__all__ = ["Callback", "Run", "dropout_of"]

Callback: TypeAlias = Callable[[Any, History], object]

# Seconds between updates of the progress bar, and for which Ctrl-C may wait for the engine.
REFRESH, PATIENCE = 0.1, 0.5
# Samples times parameters of the first call of the engine, which take some hundredths of a second.
CALL_WORK = 1_000_000_000
# How many seeds of dropout there are.
SEEDS = 1 << 64


class Run:
    """One call of `fit` under way."""

    # A `Plan`, and `Orders`; of batches that come one by one, other iterators.
    plan: Any
    orders: Any

    def __init__(
        self,
        net: Net,
        data: Dataset | None,
        plan: Any,
        test: Dataset | None,
        optimizer: Optimizer,
        gradient: str,
        callbacks: Sequence[Callback],
        options: dict[str, Any],
        saver: Saver | None,
    ) -> None:
        self.net, self.data, self.test, self.plan = net, data, test, plan
        self.asked, self.taken = plan.steps, 0
        self.saved: Checkpoint | None = None
        remedy = "Use a smaller batch_size, or a smaller net"
        # No method of its own: in a cycle of references the data would outlive the run.
        self.memory = MemoryFor(net.backend, lambda: _needs(net, plan.batch), remedy)
        with self.memory:
            self.state = TrainingState(net.flat, optimizer, gradient, net.backend)
            # What the net learns, of which evaluations are without smoothing.
            is_read = data is None or isinstance(data, StreamedDataset)
            self.learnt = None if data is None or is_read else self.smoothed(data)
        # Of `Engine.train`, without what is left out: engines of other packages may not know it.
        self.options = options
        # Of data that are read from elsewhere, nothing is said.
        self.watch = None
        if self.learnt is not None:
            self.watch = Watch(net, self.learnt, options.get("weights"), plan.batch)
        self.history = History(plan.batches_per_epoch)
        self.callbacks, self.saver = callbacks, saver
        # The first call of the engine may compile, which says nothing of the next.
        self.is_warm, self.chunk = False, 1
        if gradient == "analytic":
            self.chunk = max(1, CALL_WORK // (plan.batch * net.size))
        self.most = sys.maxsize
        if isinstance(data, StreamedDataset):
            self.most = max(1, data.rows_at_once // plan.batch)
        self.interrupts = Interrupts()
        self.divergence = self.shortage = ""
        self.is_stopped = False
        self.at_epoch_end = [c for c in callbacks if not hasattr(c, "every")]
        self.every = [(positive_int(c.every, "every"), c) for c in callbacks if hasattr(c, "every")]
        # After how many updates something is to be done.
        self.periods = [k for k, _ in self.every]
        if saver is not None and saver.every is not None:
            self.periods.append(saver.every)
        # The updates after which callbacks were called last, and an epoch's end was done with; and
        # how many losses are of no update.
        self.called = self.finished = self.missed = 0

    def begin(self, draw: np.random.Generator) -> None:
        """Start a run whose batches this generator draws."""
        # Updates before this call, and how many of the run's first epoch were before the run.
        self.done = self.offset = 0
        self.first = Generator.of(draw)
        self._draw_from(draw, 0, dropout_of(self.net, draw))

    def go_on(self, ending: Ending) -> None:
        """Start a run where another one has ended."""
        ending.restore(self.same, self.state, self.net.backend)
        self.done, self.offset = ending.updates, ending.position
        self.first = ending.generator
        self._draw_from(ending.generator.revive(), ending.position, ending.dropout_seed)

    def take_up(self, saved: Checkpoint, rng: np.random.Generator | None) -> bool:
        """Go on with a run that was saved, on its own generator if given; return False if over."""
        ending, history, asked = saved.ending, saved.history, self.plan.steps
        ending.restore(self.same, self.state, self.net.backend)
        self.divergence = _divergence_of(history)
        if self.divergence and asked != saved.asked:
            msg = (
                f"the run in the checkpoint has ended because {self.divergence}: it cannot go on; "
                f"begin another one without resume"
            )
            raise ValueError(msg)
        self.net.flat[...] = self.net.backend.asarray(saved.params)
        self.history, self.saved, self.taken = history, saved, history.steps
        self.done, self.offset, self.first = ending.updates, saved.offset, saved.first
        self.called, self.finished = saved.called, saved.finished
        if rng is None:
            rng = ending.generator.revive()
        else:
            rng.bit_generator.state = ending.generator.state
        if (saved.is_over and asked == saved.asked) or asked < history.steps:
            Hooks(self.callbacks, self.net, history).restore(saved.states)
            return False
        if saved.last is not None:
            self.net.flat[...] = self.net.backend.asarray(saved.last)
        if saved.is_stopped:
            # The callbacks that did may be others now, with more patience, and are asked.
            self.called = self.finished = -1
        self.plan = self.plan.after(history.steps)
        self._draw_from(rng, ending.position, ending.dropout_seed)
        return True

    @property
    def same(self) -> dict[str, object]:
        """What must be the same in a run that goes on with this one."""
        return identity(self.net, self.plan, self.state, self.options)

    def _draw_from(self, draw: np.random.Generator, position: int, seed: int | None) -> None:
        self.orders = self.plan.epochs(draw, position)
        self.seeded(seed)
        if not self.at_epoch_end and not self.every:
            # A callback may draw from the same generator, whose order of draws must not change.
            self.state.meanwhile = self.orders.draw_ahead

    def seeded(self, seed: int | None) -> None:
        """Drop units by this seed."""
        if seed is not None:
            self.history.dropout_seed = seed
            self.options["dropout"] = Dropout(self.net.spec.dropout, seed)

    def smoothed(self, data: Dataset) -> Dataset:
        """Return a data set with the net's label smoothing."""
        if not self.net.spec.label_smoothing:
            return data
        return data.with_targets(self.net.engine.smoothed(data.t))

    def train(self, advance: Advance, *, timed: bool) -> None:
        """Train to the end of the run, or until something stops it."""
        self.hooks = Hooks(self.callbacks, self.net, self.history)
        try:
            with self.interrupts:
                self._train(advance, timed=timed)
        except BaseException as error:
            # Also of Ctrl-C, which comes between two updates; but not every exception can have it.
            with contextlib.suppress(AttributeError, TypeError):
                error.history = self.history  # type: ignore[attr-defined]
            raise

    def _train(self, advance: Advance, *, timed: bool) -> None:
        try:
            self._begin()
            stop = self._call_if_due() or self._finish_if_due()
            for order in () if stop else self.orders:
                if self.divergence:
                    break
                stop = self.epoch(order, advance, timed=timed)
                if self.finish_epoch() or stop:
                    break
                self._save_if_due()
        except BaseException:
            self._end()
            try:
                # Before a callback restores other parameters.
                self._save(self._last_checkpoint(is_over=False))
            finally:
                self._end_hooks()
            raise
        self._end()
        last = None
        try:
            last = self._last_checkpoint(is_over=True)
        finally:
            self._end_hooks()
        if last is not None:
            last = last.ended_with(self.net.backend.to_numpy(self.net.flat))
        self._save(last)

    def _begin(self) -> None:
        """Evaluate the start, or restore the callbacks of a run that was saved."""
        # What was saved may be of a call without test data.
        if not self.history.evaluated_at:
            self.evaluate()
        self.hooks.start(() if self.saved is None else self.saved.states)
        # It may hold the net twice.
        self.saved = None
        # Before the first update, unless it would replace another run's.
        if self.saver is not None and not self.saver.exists:
            self._write(self.checkpoint(is_over=False))

    def epoch(self, order: np.ndarray, advance: Advance, *, timed: bool) -> bool:
        """Train on one epoch's order; return whether to stop."""
        batch = self.plan.batch
        while order.size:
            until = min((k - self.history.steps % k for k in self.periods), default=order.size)
            steps = min(until, self.chunk, self.most)
            piece = order[: steps * batch]
            rates = self.state.scheduled_rates(-(-piece.size // batch))
            options = self.options if rates is None else self.options | {"rates": rates}
            # Rows that are read anew for each call have other numbers.
            if self.learnt is not None:
                self.state.following = order[piece.size : piece.size + 2 * batch]
            started = time.perf_counter()
            losses = self.commit(partial(self._update, piece, options), listens=steps == 1)
            if self.is_warm:
                # As many updates as fit between two refreshes of the bar, or until Ctrl-C is heard;
                # counted in samples, because the last batch of an epoch may have few.
                seconds = max(time.perf_counter() - started, 1e-9)
                samples = (REFRESH if timed else PATIENCE) * piece.size / seconds
                self.chunk = max(1, int(samples / batch))
            self.is_warm = True
            order = order[losses.size * batch :]
            if self.divergence:
                return True
            advance(losses.size, f"loss {losses[-1]:.4f}")
            if self._call_if_due():
                return True
            if order.size:
                self._save_if_due()
        return False

    def commit(self, update: Callable[[], np.ndarray], *, listens: bool) -> np.ndarray:
        """Do some updates and record them, both or neither, and return their losses.

        Ctrl-C waits, unless the call `listens`: then it is heard while differences are computed,
        which may take minutes, and of which nothing is kept.
        """
        with self.memory, self.interrupts.wait(), rounds_to_zero():
            self.state.listening = self.interrupts.listen if listens else contextlib.nullcontext
            losses = update()
            self._record(losses)
        return losses

    def _update(self, piece: np.ndarray, options: dict[str, Any]) -> np.ndarray:
        """Do the updates of some batches, and return their losses."""
        data, train = self.learnt, self.net.engine.train
        if data is None:
            weights = options.get("weights")
            if weights is not None:
                index = self.net.backend.asarray(piece)
                options = options | {"weights": self.net.backend.xp.take(weights, index, axis=0)}
            data, piece = self.smoothed(self._read_rows(self.data, piece)), np.arange(piece.size)
        return train(self.state, data, piece, self.plan.batch, **options)

    def _read_rows(self, data: Any, index: np.ndarray) -> Dataset:
        x, t = data.read(index)
        try:
            return dataset_for(self.net, x, t, "x", "t")
        except ValueError:
            # By its place in the whole array, so that it can be found.
            for name, array in (("x", x), ("t", t)):
                check_finite(get_backend("numpy"), array, name, index)
            raise

    def _call_if_due(self) -> bool:
        """Call the callbacks of the last update, unless that was done; return whether to stop."""
        steps = self.history.steps
        stop = steps != self.called and self._call([c for k, c in self.every if steps % k == 0])
        self.called = steps
        return stop

    def _finish_if_due(self) -> bool:
        """Finish an epoch after whose last update the run was saved; return whether to stop."""
        steps = self.history.steps
        is_end = self.is_epoch_end() or steps == self.asked
        return steps not in (0, self.finished) and is_end and self.finish_epoch()

    def is_epoch_end(self) -> bool:
        """Return whether the last update was that of an epoch."""
        return bool((self.offset + self.history.steps) % self.plan.batches_per_epoch == 0)

    def finish_epoch(self) -> bool:
        """Evaluate, and call the callbacks of a whole epoch; return whether to stop."""
        if self.history.evaluated_at[-1:] != [self.history.steps]:
            self.evaluate()
        if self.watch is not None and not self.divergence:
            is_last = self.history.steps == self.asked
            self.watch.look(self.history.loss, is_last=is_last)
        stop = self.is_epoch_end() and not self.divergence and self._call(self.at_epoch_end)
        self.finished = self.history.steps
        return stop

    def evaluate(self) -> None:
        """Append the net's losses and accuracies, if there is test data."""
        if self.test is None or self.divergence:
            return
        history = self.history
        with self.memory, rounds_to_zero():
            test = self._evaluation(self.test)
            train = None if self.data is None else self._evaluation(self.data)
        # What interrupts an evaluation leaves no half of it.
        history.evaluated_at.append(history.steps)
        for found, losses, accuracies in (
            (train, history.train_loss, history.train_accuracy),
            (test, history.test_loss, history.test_accuracy),
        ):
            if found is None:
                continue
            loss, accuracy = found
            losses.append(loss)
            if accuracy is not None:
                accuracies.append(accuracy)
        self.divergence = _divergence_of(history)
        self.interrupts.release()
        self.hooks.evaluated()

    def _evaluation(self, data: Dataset) -> tuple[float, float | None]:
        """Return the mean loss and the accuracy on a data set."""
        evaluate = self.net.engine.evaluate
        if not isinstance(data, StreamedDataset):
            return evaluate(self.net.flat, data)
        total, correct = 0.0, 0.0
        for rows in slices(data.size, data.rows_at_once):
            piece = self._read_rows(data, np.arange(rows.start, rows.stop))
            loss, accuracy = evaluate(self.net.flat, piece)
            total += loss * piece.size
            correct += (accuracy or 0.0) * piece.size
        return total / data.size, correct / data.size if self.net.spec.loss.classifies else None

    def _end(self) -> None:
        """Note the state in which the run ends, unless it is that of no update."""
        self.orders.put_back()
        self.history.ending = self._ending() if self._is_between_updates else None

    def _end_hooks(self) -> None:
        self.interrupts.release()
        self.hooks.end()

    def _ending(self) -> Ending:
        generator, position = self.orders.place(self.state.step - self.done)
        seed, backend = self.history.dropout_seed, self.net.backend
        slots = tuple(self.state.slots)
        return Ending(self.same, self.state.step, slots, generator, position, seed, backend)

    def checkpoint(self, *, is_over: bool) -> Checkpoint:
        """Return the run as it is now."""
        return Checkpoint(
            replace(self.history, ending=self._ending()),
            self.net.backend.to_numpy(self.net.flat),
            self.first,
            self.offset,
            self.asked,
            is_over,
            self.is_stopped,
            self.called,
            self.finished,
            states_of(self.callbacks),
        )

    def _save_if_due(self) -> None:
        """Write a checkpoint after so many updates, or at the end of an epoch."""
        if self.saver is None:
            return
        every, steps = self.saver.every, self.history.steps
        if steps % every == 0 if every else steps == self.finished:
            self._write(self.checkpoint(is_over=False))

    @property
    def _is_between_updates(self) -> bool:
        """Whether parameters are those after the updates of the history.

        An exception within an update, as of Ctrl-C that is pressed twice, leaves others.
        """
        return self.state.step - self.done == self.history.steps - self.missed - self.taken

    def _last_checkpoint(self, *, is_over: bool) -> Checkpoint | None:
        """Return the run as it ends, if that is to be kept."""
        if self.saver is None or not self._is_between_updates:
            return None
        found = self.checkpoint(is_over=is_over)
        # On the host they are the net's own, which a callback may exchange now.
        return replace(found, params=found.params.copy())

    def _save(self, checkpoint: Checkpoint | None) -> None:
        """Write the last checkpoint, if there is one."""
        if checkpoint is not None:
            self._write(checkpoint)

    def _write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, for which Ctrl-C waits."""
        if self.saver is not None:
            with self.interrupts.wait():
                self.saver.write(checkpoint)

    def _record(self, losses: np.ndarray) -> None:
        """Append losses; if the last one is not finite, the engine stopped there."""
        self.history.loss.extend(losses.tolist())
        if not math.isfinite(losses[-1]):
            self.divergence = _divergence_of(self.history)
            self.missed = 1

    def complaints(self) -> Iterator[tuple[str, type[Warning]]]:
        """Yield what the caller is to be warned of when the run has ended."""
        what = fault = ""
        if self.divergence:
            what = f"{self.divergence}; training stops"
            fault = self.watch.fault() if self.watch is not None else ""
        elif self.watch is not None:
            what = self.watch.explosion(self.history.loss)
        if what:
            msg = (
                f"{what}. The optimizer was {self.state.optimizer}: try a smaller learning rate. "
                f"{fault}"
            )
            yield msg.rstrip(), DivergenceWarning
        if self.shortage:
            yield self.shortage, RuntimeWarning

    def _call(self, callbacks: Sequence[Callback]) -> bool:
        if not callbacks:
            return False
        self.interrupts.release()
        answers = [callback(self.net, self.history) for callback in callbacks]
        # A comparison of NumPy's numbers gives NumPy's own True.
        stop = any(isinstance(answer, bool | np.bool_) and answer for answer in answers)
        self.is_stopped = self.is_stopped or stop
        return stop


def _divergence_of(history: History) -> str:
    """Return which of the last losses is not finite, or nothing."""
    if history.loss and not math.isfinite(history.loss[-1]):
        return f"the loss of step {history.steps} is {history.loss[-1]}"
    for curve in (history.test_loss, history.train_loss):
        if curve and not math.isfinite(curve[-1]):
            return f"the loss after step {history.evaluated_at[-1]} is {curve[-1]}"
    return ""


def dropout_of(net: Net, draw: np.random.Generator) -> int | None:
    """Draw the seed of a net's dropout, if it has any."""
    return int(draw.integers(SEEDS, dtype=np.uint64)) if net.spec.dropout else None


def _needs(net: Net, batch: int) -> str:
    size = pass_bytes(net.spec, net.dtype, batch)
    return (
        f"a batch of {batch:,} samples and a net of {net.spec.size:,} parameters take {size:,} "
        f"bytes or more"
    )
