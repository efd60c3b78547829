"""What tests spend on tracing and need not.

Tests trace hundreds of small programs, whose Python side costs as much as XLA's.
Neither of the two changes what is traced.
"""

import functools
import gc

import jax
import jax.numpy as jnp
from flax.core import scope


def use() -> None:
    """Garbage is looked for less often, and parameters' shapes are remembered."""
    # A trace makes a hundred thousand small objects, and nearly all of them stay.
    gc.set_threshold(50_000, 20, 50)
    # What the imports have made stays, and need not be looked through.
    gc.freeze()
    _remember_shapes()


def _remember_shapes() -> None:
    """Flax compares parameters with their initialiser's shapes, each time it reads one.

    It traces the whole initialiser for that, a quarter of a model's tracing. Here each
    initialiser is traced once for given arguments; the shapes are compared as before.
    """
    plain = scope.Scope.param

    @functools.lru_cache(maxsize=4096)
    def result(init, args, settings):
        return jax.eval_shape(lambda: init(jax.random.key(0), *args, **dict(settings)))

    def param(self, name, init_fn, *args, unbox=True, **settings):
        init = init_fn
        if self.has_variable("params", name):

            def init(key, *args, **settings):
                del key
                # A shape may be a list, which nothing can be remembered by.
                known = (tuple(x) if isinstance(x, list) else x for x in args)
                shapes = result(init_fn, tuple(known), tuple(settings.items()))
                return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        return plain(self, name, init, *args, unbox=unbox, **settings)

    scope.Scope.param = param
