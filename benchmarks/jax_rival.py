"""Packed training in JAX, compiled, with `vmap` over runs and `scan` over steps. The scan gathers the batches."""

from __future__ import annotations

from typing import Any

from contestants import LEARNING_RATE, Row, dataset, model, order


class JaxScan:
    """Training of all runs of a row at once. JAX uses as many threads as there are cores.

    Args:
        row: The networks and the data.
    """

    def __init__(self, row: Row) -> None:
        import jax
        import jax.numpy as jnp

        data = dataset(row)
        x, y = jnp.asarray(data.x_train.numpy()), jnp.asarray(data.y_train.numpy())
        self.runs = row.runs
        self._order = jnp.asarray(order(row, row.runs).numpy())
        tensors = [jnp.asarray(tensor.detach().numpy()) for tensor in model(row).parameters()]
        self._parameters = [jnp.broadcast_to(tensor, (row.runs, *tensor.shape)).copy() for tensor in tensors]
        self._rate = jnp.full(row.runs, LEARNING_RATE)
        self._wait: Any = jax.block_until_ready

        def loss(parameters: list[Any], inputs: Any, labels: Any) -> Any:
            w1, b1, w2, b2, w3, b3 = parameters
            hidden = jax.nn.relu(inputs @ w1.T + b1)
            outputs = jax.nn.relu(hidden @ w2.T + b2) @ w3.T + b3
            correct = jnp.take_along_axis(outputs, labels[:, None], 1)[:, 0]
            return (jax.nn.logsumexp(outputs, 1) - correct).mean()

        def update(parameters: list[Any], rate: Any, index: Any) -> list[Any]:
            gradients = jax.grad(loss)(parameters, x[index], y[index])
            return [p - rate * g for p, g in zip(parameters, gradients, strict=True)]

        def block(parameters: list[Any], indices: Any) -> list[Any]:
            def step(carry: list[Any], index: Any) -> tuple[list[Any], None]:
                return jax.vmap(update)(carry, self._rate, index), None

            return jax.lax.scan(step, parameters, indices)[0]

        self._step: Any = jax.jit(block, donate_argnums=0)

    def advance(self) -> None:
        """Train the steps of the row."""
        self._parameters = self._step(self._parameters, self._order)
        self._wait(self._parameters)
