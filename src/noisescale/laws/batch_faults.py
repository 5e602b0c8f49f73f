"""The batch sizes that a study's model cannot be trained on, without the model."""

from __future__ import annotations

from collections.abc import Callable

from noisescale.families import FAMILIES, Normalization
from noisescale.store import Study


def batch_fault_of(study: Study, given: bool) -> Callable[[int], str | None]:
    """Return a function from a batch size to the requirement that it violates, or to None.

    A sweep records what its model accepts. Studies of version 0.1 have no record: for a built-in family the
    normalization tells, and for your own module the trained batch sizes are the only ones that are known to work.

    Args:
        study: The study.
        given: True if the user asked for the batch size. Then a size is refused only if the model is known to refuse
            it.
    """
    model = study.spec.get("model") or {}
    sizes = {name: model[name] for name in ("groups", "ghost_size") if model.get(name) is not None}
    normalization = Normalization(model.get("normalization", "none"), **sizes)
    record = study.accepted_batches()
    trained = (study.spec.get("grid") or {}).get("batch_size") or []
    unknown = record is None and model.get("family", "mlp") not in FAMILIES and bool(trained) and not given

    def fault(batch_size: int) -> str | None:
        if unknown and batch_size < min(trained):
            return f"at least {min(trained)}, the smallest trained batch, because the study does not record what fits"
        return normalization.batch_fault(batch_size) or (record.fault(batch_size) if record else None)

    return fault
