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


def shown(monkeypatch, clock):
    """What bars write, on a clock of the test's own."""
    written = io.StringIO()
    make = bars.tqdm
    monkeypatch.setattr(
        bars,
        "tqdm",
        lambda **kwargs: make(**kwargs | {"file": written, "mininterval": 0}),
    )
    monkeypatch.setattr(bars.time, "monotonic", lambda: clock[0])
    return written


def test_training_is_estimated_without_its_compilation(monkeypatch):
    clock = [0.0]
    written = shown(monkeypatch, clock)
    bar, show, say = bars.progress_bar("train")
    with bar:
        say("compiling")
        assert "compiling" in written.getvalue()
        clock[0] = 300.0  # compilation and the first chunk
        show(10, 110, {"loss": 1.0})
        assert "left" not in written.getvalue()
        clock[0] = 301.0
        show(20, 110, {"loss": 0.5})
        bar.refresh()
        # Ten steps a second are left for 90 of them.
        assert "20/110" in written.getvalue() and "loss=0.500, 0:09 left" in (
            written.getvalue()
        )
        assert "hours" not in written.getvalue()
        say("measuring the card")
        assert "measuring the card" in written.getvalue()


def test_a_training_of_hours_is_told_once(monkeypatch, capsys):
    clock = [0.0]
    shown(monkeypatch, clock)
    bar, show, _ = bars.progress_bar("train")
    with bar:
        for step in range(10, 50, 10):
            clock[0] += 10.0
            show(step, 100_000, {})
    assert (
        capsys.readouterr().err.count("about 27.8 hours are left at 1.0 steps/s") == 1
    )


def test_evaluation_is_estimated_from_alignment_and_acting(monkeypatch):
    clock = [0.0]
    written = shown(monkeypatch, clock)
    bar, show, say = bars.evaluation_bar("evaluate", total=2000)
    with bar:
        for seconds, words in ((500, "compiling"), (20, "aligning")):
            say(words)
            clock[0] += seconds
        say("acting")
        clock[0] += 100
        show(1000)
        bar.refresh()
        assert "acting, 1:40 left" in written.getvalue()
        say("aligning")
        clock[0] += 20
        say("acting")
        clock[0] += 50
        show(500)
        bar.refresh()
        # 500 steps at 0.1 s, and the alignment of as many: 40 s for 2 blocks of 750.
        assert "acting, 1:03 left" in written.getvalue()


def test_warnings_stand_on_lines_of_their_own(monkeypatch, capsys):
    import sys
    import warnings

    from experiments import cli
    from sas_jax.data.dsrl import DataWarning

    monkeypatch.setattr(warnings, "formatwarning", cli._one_line)
    monkeypatch.setattr(warnings, "showwarning", cli._show)
    with bars.tqdm(total=5, desc="train", file=sys.stderr, mininterval=0) as bar:
        bar.update(2)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("two-costs: twice", DataWarning, stacklevel=1)
        bar.update(3)
    pieces = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "warning: two-costs: twice" in [piece.strip() for piece in pieces]
