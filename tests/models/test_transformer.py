"""The windowed decoder against a dense mask, its gradients, its memories."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.models import transformer
from sas_jax.models.transformer import Decoder, DecoderConfig, Dropout
from tests.helpers import dense_oracle
from tests.helpers.model_fixtures import random_params

# K = 4: thirteen steps are four blocks, the last of them partly filled.
CONFIG = DecoderConfig(width=16, depth=2, num_heads=2, context=4, dropout=0.0)
STEPS = 13


def make_decoder(config, per_step, seed=0):
    decoder = Decoder(config)
    x = np.zeros((1, per_step * 2, config.width), np.float32)
    params = random_params(
        decoder,
        x,
        np.ones((1, 2), bool),
        tokens_per_step=per_step,
        num_out=per_step,
        method="forward",
        seed=seed,
    )
    return decoder, params


def draw_tokens(count, width=16, rows=2, seed=0):
    rng = np.random.default_rng([1, seed])
    return rng.normal(size=(rows, count, width)).astype(np.float32)


def run_forward(decoder, params, x, is_valid, **kwargs):
    @jax.jit
    def forward(params, x, is_valid, prefix, prefix_visible):
        return decoder.apply(
            {"params": params},
            x,
            is_valid,
            prefix=prefix,
            prefix_visible=prefix_visible,
            method="forward",
            **static,
        )

    prefix = kwargs.pop("prefix", None)
    visible = kwargs.pop("prefix_visible", None)
    static = kwargs
    return np.asarray(forward(params, x, is_valid, prefix, visible))


def test_window_mask_names_every_pair():
    """K = 2 steps of 2 tokens; rows are queries 4-7, columns keys 0-7."""
    expected = [
        [0, 0, 1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 1, 1],
    ]
    np.testing.assert_array_equal(transformer.window_mask(2, 2), np.array(expected) > 0)


@pytest.mark.parametrize("per_step, heads", [(3, 1), (4, 4)])
def test_forward_is_attention_under_the_dense_mask(per_step, heads):
    """Rows of several blocks; the second row is shorter and its padding is garbage."""
    config = dataclasses.replace(CONFIG, num_heads=heads)
    decoder, params = make_decoder(config, per_step)
    x = draw_tokens(STEPS * per_step)
    lengths = (STEPS, 7)
    x[1, 7 * per_step :] = 1e3
    is_valid = np.arange(STEPS)[None] < np.asarray(lengths)[:, None]
    out = run_forward(
        decoder, params, x, is_valid, tokens_per_step=per_step, num_out=per_step
    )
    mask = dense_oracle.make_mask(STEPS, per_step, config.context)
    for row, length in enumerate(lengths):
        n = length * per_step
        expected = dense_oracle.decoder(params, config, x[row, :n], mask[:n, :n])
        np.testing.assert_allclose(out[row, :n], expected, atol=1e-5)


def test_a_shorter_window_changes_the_result():
    """The oracle can tell windows apart, so agreeing with it means something."""
    decoder, params = make_decoder(CONFIG, 3)
    x = draw_tokens(STEPS * 3)[0]
    expected, other = (
        dense_oracle.decoder(params, CONFIG, x, dense_oracle.make_mask(STEPS, 3, k))
        for k in (4, 3)
    )
    assert np.abs(expected - other)[9:].max() > 1e-2
    np.testing.assert_array_equal(expected[:9], other[:9])  # three steps fit in both


def test_num_out_trims_and_changes_nothing_else():
    """Two of three tokens: what the world model asks for."""
    decoder, params = make_decoder(CONFIG, 3)
    x, is_valid = draw_tokens(STEPS * 3), np.ones((2, STEPS), bool)
    full = run_forward(decoder, params, x, is_valid, tokens_per_step=3, num_out=3)
    out = run_forward(decoder, params, x, is_valid, tokens_per_step=3, num_out=2)
    wanted = full.reshape(2, STEPS, 3, 16)[:, :, 1:].reshape(out.shape)
    np.testing.assert_allclose(out, wanted, atol=1e-6)


def test_gradients_reach_exactly_what_layers_of_windows_reach():
    """d(token q's output)/d(token k) is non-zero iff k lies within depth windows of q.

    The farthest key is depth * (K - 1) steps back; what comes later, be it in the same
    step, and what lies farther back have a gradient of exactly zero.
    """
    decoder, params = make_decoder(CONFIG, 3)
    x = draw_tokens(STEPS * 3, rows=1)
    weights = np.random.default_rng(3).normal(size=16).astype(np.float32)

    @jax.jit
    def gradient_norms(x):
        def output(x, token):
            out = decoder.apply(
                {"params": params},
                x,
                jnp.ones((1, STEPS), bool),
                tokens_per_step=3,
                num_out=3,
                method="forward",
            )
            return out[0, token] @ weights

        gradient = jax.vmap(jax.grad(output), in_axes=(None, 0))
        return jnp.abs(gradient(x, jnp.arange(STEPS * 3))[:, 0]).max(-1)

    found = np.asarray(gradient_norms(x)) > 0
    mask = dense_oracle.make_mask(STEPS, 3, CONFIG.context).astype(int)
    reach = (mask @ mask) > 0
    np.testing.assert_array_equal(found, reach)
    first = [np.flatnonzero(row)[0] // 3 for row in found[2::3]]
    assert first == [max(0, t - 2 * (4 - 1)) for t in range(STEPS)]


def test_a_prefix_is_seen_by_all_and_sees_only_itself():
    """forward(prefix=encode_prefix(p)) == dense attention over [p; row]."""
    config = CONFIG
    decoder, params = make_decoder(config, 3)
    prompt, x = draw_tokens(2 * 3, seed=1), draw_tokens(STEPS * 3)
    memory = jax.jit(
        lambda p: decoder.apply({"params": params}, p, method="encode_prefix")
    )(prompt)
    assert memory.num_slots == 6
    visible = np.ones((2, 6), bool)
    visible[1] = False  # the second row has no prompt
    out = run_forward(
        decoder,
        params,
        x,
        np.ones((2, STEPS), bool),
        tokens_per_step=3,
        num_out=3,
        prefix=memory,
        prefix_visible=visible,
    )
    mask = dense_oracle.make_mask(STEPS, 3, config.context, prompt_steps=2)
    joined = np.concatenate([prompt[0], x[0]])
    expected = dense_oracle.decoder(params, config, joined, mask)[6:]
    np.testing.assert_allclose(out[0], expected, atol=1e-5)
    expected = dense_oracle.decoder(params, config, x[1], mask[6:, 6:])
    np.testing.assert_allclose(out[1], expected, atol=1e-5)


def test_extending_token_by_token_equals_the_row_at_once():
    """One memory shared by the batch, one per row, several tokens at a time."""
    decoder, params = make_decoder(CONFIG, 1)
    prompt, x = draw_tokens(3, rows=1, seed=2), draw_tokens(STEPS)
    mask = dense_oracle.make_mask(STEPS, 1, STEPS, prompt_steps=3)

    @jax.jit
    def run(prompt, x):
        prefix = decoder.apply({"params": params}, prompt, method="encode_prefix")
        shared = jax.tree.map(lambda y: y[0], prefix)  # no batch axis: read by all
        own = transformer.empty_memory(CONFIG, STEPS, (2,))

        def body(own, step):
            token = jax.lax.dynamic_slice_in_dim(x, step, 1, axis=1)
            seen = jnp.broadcast_to(jnp.arange(STEPS)[None] < step, (2, STEPS))
            memories = ((shared, jnp.ones((2, 3), bool)), (own, seen))
            z, new = decoder.apply(
                {"params": params}, token, memories, num_out=1, method="extend"
            )
            return transformer.write(own, new, step), z[:, 0]

        one_by_one = jnp.swapaxes(jax.lax.scan(body, own, jnp.arange(STEPS))[1], 0, 1)
        memories = ((shared, jnp.ones((2, 3), bool)),)
        at_once, _ = decoder.apply(
            {"params": params}, x, memories, num_out=5, method="extend"
        )
        return one_by_one, at_once

    one_by_one, at_once = map(np.asarray, run(prompt, x))
    for row in range(2):
        joined = np.concatenate([prompt[0], x[row]])
        expected = dense_oracle.decoder(params, CONFIG, joined, mask)[3:]
        np.testing.assert_allclose(one_by_one[row], expected, atol=1e-5)
        np.testing.assert_allclose(at_once[row], expected[-5:], atol=1e-5)


def test_concatenated_memories_hold_both_in_order():
    def filled(value, slots):
        memory = transformer.empty_memory(CONFIG, slots, (2,))
        return jax.tree.map(lambda x: np.full(x.shape, value, np.float32), memory)

    both = transformer.concatenate(filled(1.0, 2), filled(2.0, 3))
    assert both.num_slots == 5 and len(both.keys) == CONFIG.depth
    np.testing.assert_array_equal(both.keys[0][0, 0, :, 0], [1, 1, 2, 2, 2])
    np.testing.assert_array_equal(both.values[1][1, 1, :, 0], [1, 1, 2, 2, 2])


def test_bfloat16_activations_keep_float32_parameters():
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    decoder, params = make_decoder(config, 3)
    kwargs = {"tokens_per_step": 3, "num_out": 3}
    x, is_valid = draw_tokens(5 * 3, rows=1), np.ones((1, 5), bool)
    shapes = jax.eval_shape(
        lambda key: decoder.init(key, x, is_valid, method="forward", **kwargs),
        jax.random.key(0),
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(shapes)} == {"float32"}
    assert transformer.empty_memory(config, 2).keys[0].dtype == jnp.bfloat16
    out = run_forward(decoder, params, x.astype(jnp.bfloat16), is_valid, **kwargs)
    assert out.dtype == jnp.bfloat16
    mask = dense_oracle.make_mask(5, 3, config.context)
    error = np.abs(out[0] - dense_oracle.decoder(params, config, x[0], mask))
    assert 0 < error.max() < 0.15  # eight bits of mantissa, a few roundings


def test_dropout_keeps_the_mean_at_its_rounded_rate():
    """0.1 * 256 = 25.6 -> 26 values of a byte are dropped."""
    x = np.full((300, 701), 2.0, np.float32)
    drop = Dropout(0.1)

    @jax.jit
    def run(key):
        return drop.apply({}, x, deterministic=False, rngs={"dropout": key})

    out = np.asarray(run(jax.random.key(0)))
    kept = out != 0
    np.testing.assert_allclose(out[kept], 2.0 * 256 / 230, rtol=1e-6)
    # 210 300 draws: four standard errors are 0.0026.
    assert abs(1 - kept.mean() - 26 / 256) < 0.0026
    assert abs(np.corrcoef(kept[:, :-1].ravel(), kept[:, 1:].ravel())[0, 1]) < 0.01
    assert drop.apply({}, x, deterministic=True) is x


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 10, "num_heads": 4},
        {"context": 1},
        {"depth": 0},
        {"dropout": 1.0},
        {"dtype": "float16"},
    ],
)
def test_impossible_sizes_raise(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DecoderConfig(**wrong)
