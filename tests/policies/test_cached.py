"""The ring of keys against a full forward pass, at every step and well past the window.

The reference is float64 numpy under an explicit mask (`dense_oracle`), once over the
whole history; the code under test sees one step at a time.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.experiment import make_model
from sas_jax.policies import cached
from tests.helpers import dense_oracle
from tests.helpers.histories import at, draw_history, joined, oracle_policy
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

STEPS = 17  # more than three windows of K = 5


def replay(model, variables, history, first, prompts, windows):
    """Feeds `[P, W]` histories step by step; mean and log-std `[P, W, A]` on the way.

    first: `[P, W]` bool, where a row starts an episode of its own (its time step is 0).
    """

    count = history.timestep.shape[0]

    @jax.jit
    def run(variables, history, first, prompts, windows):
        state = model.start(
            variables,
            jax.random.split(jax.random.key(0), count),
            history.obs[:, 0],
            history.return_to_go[:, 0],
            history.cost_to_go[:, 0],
            windows,
        )
        encode = jax.vmap(model.encode_prompt, in_axes=(None, 0, 0))
        prompt = encode(variables, *prompts)

        def body(state, t):
            state = state.replace(
                obs=model.standardise(history.obs[:, t]),
                return_to_go=history.return_to_go[:, t],
                cost_to_go=history.cost_to_go[:, t],
                timestep=jnp.where(first[:, t], 0, state.timestep),
            )
            seen = model.observe(variables, state, prompt)
            state = model.commit(variables, state, seen, history.action[:, t], prompt)
            return state, (seen.mean, seen.log_std)

        return jax.lax.scan(body, state, jnp.arange(STEPS))[1]

    seen = run(variables, history, first, prompts, windows)
    return [np.moveaxis(np.asarray(x), 0, 1) for x in seen]


@pytest.mark.slow
@pytest.mark.parametrize(
    "algo, heads, place, length",
    [
        ("dt", 1, "pinned", 2),
        ("cdt", 4, "beside", 2),
        ("dt", 2, "sliding", 3),
    ],
)
def test_acting_equals_the_full_forward_at_every_step(algo, heads, place, length):
    """Four rows share the ring: one with a prompt, one with the empty prompt and the
    whole window, and two that start anew on the way and must not see older slots, the
    last one before its window has filled.
    """
    config = make_config(algo=algo, decoder={"num_heads": heads})
    spec = make_spec()
    variables = make_variables(config, spec)
    model = cached.make(
        make_model(config, spec),
        spec,
        prompt_length=length,
        prompt_place=place,
    )
    context = config.model.decoder.context
    takes_room = place == "pinned"
    assert model.prompt_window == (context - length if takes_room else context)
    history = draw_history(spec, (4, STEPS))
    segments = draw_history(spec, (4, length), seed=1, first_timestep=30)
    has_prompt = np.array([True, False, True, False])
    windows = np.where(has_prompt, model.prompt_window, context).astype(np.int32)
    starts = ((0,), (0,), (0, 7), (0, 6, 9))
    first = np.zeros((4, STEPS), bool)
    for row, where in enumerate(starts):
        first[row, list(where)] = True
    mean, log_std = replay(
        model, variables, history, first, (segments, has_prompt), windows
    )
    for row, where in enumerate(starts):
        for start, stop in zip(where, (*where[1:], STEPS), strict=True):
            whole = at(history, row, slice(start, stop))
            whole = whole.replace(timestep=np.arange(stop - start))
            prompt_steps = length if has_prompt[row] else 0
            if has_prompt[row]:
                whole = joined(at(segments, row), whole)
            mask = dense_oracle.make_mask(
                stop - start,
                3 + (algo == "cdt"),
                windows[row],
                prompt_steps=prompt_steps,
                prompt="sliding" if place == "sliding" else "pinned",
            )
            expected = oracle_policy(variables["params"], config, spec, whole, mask)
            for found, wanted in zip((mean, log_std), expected, strict=True):
                np.testing.assert_allclose(
                    found[row, start:stop], wanted[prompt_steps:], atol=1e-5
                )


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"prompt_length": 5}, "no room"),
        ({"prompt_place": "fixed"}, "prompt_place"),
        ({"density": "joint"}, "density"),
        ({"num_importance": 0}, "num_importance"),
    ],
)
def test_impossible_settings_raise(wrong, message):
    config, spec = make_config(), make_spec()
    with pytest.raises(ValueError, match=message):
        cached.make(make_model(config, spec), spec, **wrong)


def test_a_prompt_as_long_as_the_window_needs_another_place():
    config, spec = make_config(), make_spec()
    net = make_model(config, spec)
    for place in ("beside", "sliding"):
        model = cached.make(net, spec, prompt_length=5, prompt_place=place)
        assert model.prompt_window == model.context == 5
