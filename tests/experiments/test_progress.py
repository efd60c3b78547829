"""The bar of long measurements."""

import io

from experiments import progress as bars


def test_what_an_earlier_run_did_is_no_part_of_the_speed(monkeypatch):
    written = io.StringIO()
    make, clock = bars.tqdm, [100.0]
    monkeypatch.setattr(
        bars, "tqdm", lambda **kwargs: make(file=written, mininterval=0, **kwargs)
    )
    bar, progress = bars.work_bar("figure x")
    bar._time = lambda: clock[0]
    bar.start_t = bar.last_print_t = clock[0]
    with bar:
        progress.expect(1000)
        progress.stage("aligning")
        assert "aligning" in written.getvalue()
        progress.skip(500)
        clock[0] += 10
        progress.done(100)
        assert (bar.n, bar.initial, bar.total) == (600, 500, 1000)
        # 100 steps in 10 seconds: the other 400 take 40.
        assert "600/1.00k [00:10<00:40, 10.0step/s" in written.getvalue()
