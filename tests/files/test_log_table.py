"""Curves come back as they were, also after a spreadsheet has saved them."""

import pytest

from sas_jax.errors import UserError
from sas_jax.files.log_table import read_log
from sas_jax.training.curves import Curve

ROWS = [
    {"step": "50", "seed": "0", "loss": "1.5", "val_loss": "-0.25"},
    {"step": "100", "seed": "0", "loss": "0.75", "val_loss": ""},
]
PLAIN = "step,seed,loss,val_loss\n50,0,1.5,-0.25\n100,0,0.75,\n"
SAVED = {
    "as ours": PLAIN,
    "with a mark and other ends of lines": "\ufeff" + PLAIN.replace("\n", "\r\n"),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace(".", ","),
    "tabs": PLAIN.replace(",", "\t"),
    "steps as floats": PLAIN.replace("50,0,", "5.0E+01,0,").replace("100,", "100.0,"),
    "empty rows and columns": PLAIN.replace("val_loss\n", "val_loss,,\n") + ",,,,,\n\n",
}


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED)
def test_a_spreadsheet_does_no_harm(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_text(content, encoding="utf-8", newline="")
    assert read_log(path) == ROWS
    curve = Curve(path, 50)
    curve.add([{"step": 75, "seed": 0, "loss": 1.0}])
    assert [row["step"] for row in read_log(path)] == ["50", "75"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "no column 'step'"),
        (b"a,b\n1,2\n", "no column 'step'"),
        (b"step,loss\nx,2\n", "row 2: step 'x'; expected a whole number"),
        (b"step,loss\n1,2\n1.5,2\n", "row 3: step '1.5'"),
        (b"step,loss\n\xff\xfe\n", "cannot be read"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, content, message):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_log(tmp_path / "metrics.csv")
    assert "\n" not in str(caught.value)
