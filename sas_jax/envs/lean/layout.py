"""Layouts by rejection sampling, drawn from the suite's random stream without its cost.

The suite places one thing after the other at random and starts over when one finds no
room: some ten thousand draws for a Button task, at fifteen microseconds each. Here the
draws are taken from the same generator in blocks and tested in plain floats. The
layouts and the state of the generator afterwards are bit for bit those of the suite.
"""

import math

import numpy as np

_BLOCK = 256  # pairs
_LAYOUT_TRIES = 10_000
_PLACE_TRIES = 100
_SOON = 6


def accelerate(generator) -> None:
    """Replaces the slow methods of one `RandomGenerator` of safety-gymnasium."""
    slow_build = generator.build_layout

    def build_layout():
        rooms = _rooms(generator)
        if rooms is None:
            return slow_build()
        return _build(generator, rooms) or slow_build()

    generator.build_layout = build_layout
    generator.sample_goal_position = lambda: _sample_goal(generator)


def _rooms(generator):
    """Returns [(name, low corner, size, keepout)], or None if beyond us.

    Placement areas made of several rectangles need further draws; no task here has one.
    """
    rooms = []
    for name, (areas, keepout) in generator.placements.items():
        if areas is not None and len(areas) != 1:
            return None
        area = generator.placements_extents if areas is None else areas[0]
        x0, y0, x1, y1 = generator.constrain_placement(area, keepout)
        if x0 > x1 or y0 > y1:
            return None
        rooms.append((name, (x0, y0), (x1 - x0, y1 - y0), keepout))
    return rooms


def _build(generator, rooms):
    """Places everything; None, with the stream untouched, if that never succeeds."""
    random = generator.random_generator
    start = random.get_state(legacy=False)
    margin = generator.placements_margin
    # Distances to keep: (other's keepout + margin) + own keepout, in this order.
    gaps = [
        [(other[3] + margin) + room[3] for other in rooms[:index]]
        for index, room in enumerate(rooms)
    ]
    things = [
        (low, size, keep, np.array(low), np.array(size), np.array(keep))
        for (_, low, size, _), keep in zip(rooms, gaps, strict=True)
    ]
    draws, placed = _Draws(random), np.empty((len(rooms), 2))
    for _ in range(_LAYOUT_TRIES):
        places = []
        for thing in things:
            place = _first_free(draws, thing, places, placed)
            if place is None:
                break  # no room for this one: start over
            placed[len(places)] = place
            places.append(place)
        else:
            random.set_state(start)
            random.random_sample(2 * draws.used)  # where the suite would stand
            generator.layout = {
                room[0]: np.array(xy) for room, xy in zip(rooms, places, strict=True)
            }
            return generator.layout
    random.set_state(start)
    return None


def _first_free(draws, thing, places, placed):
    """Draws places for one thing until one is free; None after a hundred.

    places: what has been placed so far, as a list; placed: the same in its first rows.
    """
    (low_x, low_y), (width, height), keep, low, size, keep_array = thing
    # Most things find their place soon ...
    for u, v in draws.pairs(_SOON):
        draws.used += 1
        x, y = low_x + width * u, low_y + height * v
        for (other_x, other_y), gap in zip(places, keep, strict=True):
            dx, dy = x - other_x, y - other_y
            if math.sqrt(dx * dx + dy * dy) < gap:
                break
        else:
            return x, y
    # ... and for the others it pays to look at all the places left at once.
    left = draws.array(_PLACE_TRIES - _SOON) * size
    left += low
    dx = left[:, :1] - placed[: len(places), 0]
    dy = left[:, 1:] - placed[: len(places), 1]
    dx *= dx
    dy *= dy
    dx += dy
    free = (np.sqrt(dx, out=dx) >= keep_array).all(axis=1)
    first = int(free.argmax())
    if not free[first]:
        draws.used += len(left)
        return None
    draws.used += first + 1
    return tuple(left[first].tolist())


class _Draws:
    """Pairs of uniform draws from a RandomState, taken in blocks.

    used: pairs consumed; what is looked at is consumed only by counting it here.
    """

    def __init__(self, random):
        self._random = random
        self._array, self._list = np.empty((0, 2)), []
        self._start = 0  # pairs that came before the block
        self.used = 0

    def array(self, count: int) -> np.ndarray:
        """Returns the next `count` pairs, `[count, 2]`."""
        first = self._first(count)
        return self._array[first : first + count]

    def pairs(self, count: int) -> list:
        """Returns the next `count` pairs as lists of floats."""
        first = self._first(count)
        return self._list[first : first + count]

    def _first(self, count):
        """Index of the next pair in the block, which then holds `count` more."""
        first = self.used - self._start
        if first + count > len(self._list):
            more = self._random.random_sample((_BLOCK, 2))
            self._array = np.concatenate([self._array[first:], more])
            self._list = self._array.tolist()
            self._start, first = self.used, 0
        return first


def _sample_goal(generator) -> bool:
    """One try at a new goal; as `RandomGenerator.sample_goal_position`."""
    placements = generator.placements
    areas, keepout = placements["goal"]
    goal = generator.draw_placement(areas, keepout)
    x, y = goal.tolist()
    margin = generator.placements_margin
    for name, (other_x, other_y) in generator.layout.items():
        dx, dy = x - float(other_x), y - float(other_y)
        if math.sqrt(dx * dx + dy * dy) < (placements[name][1] + margin) + keepout:
            return False
    generator.layout["goal"] = goal
    return True
