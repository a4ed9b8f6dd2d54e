"""Support for scikit-learn's callbacks, which exist from version 1.9 on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snmf._factorize import Iteration

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # an older scikit-learn

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """An empty class: this scikit-learn has no callbacks."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method unchanged."""
        return method


__all__ = ["CallbackSupportMixin", "reporter", "with_callbacks"]


def reporter(
    estimator: Any, X: Any, y: Any, known: dict[str, Any], factor: str = "components_"
) -> Any:
    """Return the `callback` argument for `factorize`; None if the estimator has no callbacks.

    Parameters
    ----------
    estimator : SNMF
        The estimator that is being fitted.
    X, y : object
        The arguments of `fit`. If y is None, callbacks get X as y.
    known : dict
        The fitted attributes that are known before the first iteration.
    factor : str, default="components_"
        The attribute that holds the components of an iteration.
    """
    if not hasattr(estimator, "_skl_callbacks"):
        return None
    context = estimator._init_callback_context(max_subtasks=estimator.max_iter)
    given = {"estimator": estimator, "X": X, "y": X if y is None else y}
    context.call_on_fit_task_begin(**given)

    def report(iteration: Iteration) -> bool:
        def attributes() -> dict[str, Any]:
            H = iteration.components()
            return {
                **known,
                factor: H,
                "n_components_": len(H),
                "n_iter_": iteration.number,
                "penalty_": iteration.penalty,
                "rms_": iteration.rms,
            }

        task = context.subcontext(task_name="iteration")
        task.call_on_fit_task_begin(**given)
        return bool(task.call_on_fit_task_end(**given, reconstruction_attributes=attributes))

    return report
