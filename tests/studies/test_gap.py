"""Levels of changed worlds, and the search for the worst one."""

import numpy as np
import pytest

from sas_jax.envs import shift as shifts
from sas_jax.errors import UserError
from sas_jax.studies import gap

BOX = gap.parse_box("actuator:0.5/2,delay:0/4")


def test_worlds_are_the_unchanged_one_and_every_level():
    axes = [gap.parse_axis("actuator:0.8/0.6"), gap.parse_axis("delay:0/1/1")]
    assert gap.worlds_of(axes) == ["", "actuator:0.8", "actuator:0.6", "delay:1"]
    assert gap.level_of("", "actuator") == 1.0 and gap.level_of("", "delay") == 0.0
    assert gap.level_of("actuator:0.6", "actuator") == 0.6
    assert gap.level_of("actuator:0.6", "delay") is None
    assert gap.level_of("actuator:0.6,delay:1", "delay") is None


def test_points_of_a_box_are_worlds_within():
    ends = [str(BOX.shift(np.array(x))) for x in ([0, 0], [1, 1], [0.5, 0.5])]
    # The middle of a factor is where halving and doubling meet.
    assert ends == ["actuator:0.5", "actuator:2,delay:4", "delay:2"]
    assert str(BOX.shift(np.array([-3.0, 9.0]))) == "actuator:0.5,delay:4"


def bad(world):
    """Worst at an actuator of 0.7 and a delay of 3."""
    found = shifts.parse(world)
    return -abs(np.log(found.actuator / 0.7)) - 0.2 * abs(found.delay - 3)


def test_the_search_comes_near_the_worst_world():
    tried = gap.worst_world(bad, BOX, tries=40)
    values = [t.badness for t in tried]
    assert values == sorted(values, reverse=True) and len(tried) <= 41
    assert "" in [t.shift for t in tried]
    worst = shifts.parse(tried[0].shift)
    assert worst.delay == 3 and worst.actuator == pytest.approx(0.7, rel=0.1)
    spread = gap.worst_world(bad, BOX, tries=20)
    assert tried[0].badness >= spread[0].badness


def test_a_search_repeats_and_asks_for_each_world_once():
    asked = []

    def counted(world):
        asked.append(world)
        return bad(world)

    first = gap.worst_world(counted, BOX, tries=16, seed=3)
    assert asked[0] == "" and len(asked) == len(set(asked))
    assert gap.worst_world(bad, BOX, tries=16, seed=3) == first
    assert gap.worst_world(bad, BOX, tries=16, seed=4) != first


@pytest.mark.parametrize(
    "call, text, message",
    [
        (gap.parse_axis, "actuator", "expected name:number/number"),
        (gap.parse_axis, "actuator:0.8/x", "expected name:number/number"),
        (gap.parse_axis, "actuater:0.8", "did you mean 'actuator'"),
        (gap.parse_axis, "delay:-1", "delay:-1"),
        (gap.parse_box, "mass:2/1", "expected name:low/high with low < high"),
        (gap.parse_box, "mass:1/2,mass:1/2", "given twice"),
        (gap.parse_box, "actuator:-1/1", "expected factors above 0"),
    ],
)
def test_wrong_worlds_are_one_line(call, text, message):
    with pytest.raises(UserError, match=message) as caught:
        call(text)
    assert "\n" not in str(caught.value)
