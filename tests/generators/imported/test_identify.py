"""What files are said to be, and the line that would use them."""

import pytest
from generators.imported.files import FILES, FUNCTIONS, STATE, pickled, torch_file

from medlat.core.errors import UserError
from medlat.generators.imported.convert import Pretrained
from medlat.generators.imported.identify import what_is
from medlat.generators.imported.python import PythonGenerator


@pytest.mark.parametrize("name", FILES)
def test_what_files_are(tmp_path, name):
    make, kind, sentence = FILES[name]
    path = make(tmp_path)
    found = what_is(path)
    assert found.name == kind
    assert sentence in found.sentence(path)
    if kind in ("medlat", "nvidia", "rosinality", "torch"):  # of the last the reader says what is wrong
        assert Pretrained(str(path)).kind == kind.replace("torch", "rosinality")
    else:
        with pytest.raises(UserError) as caught:
            Pretrained(str(path))
        assert str(caught.value).startswith(f"generator.weights={path}: ")
        assert "g_ema" not in str(caught.value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_there_are_not(name):
    with pytest.raises(UserError) as caught:
        PythonGenerator(name, code=[4], value_range=[0, 1])
    assert FUNCTIONS[name] in str(caught.value)


def test_nothing_is_imported_or_called(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trace"), "w"))

    for number, content in enumerate((Trap(), {"state_dict": STATE, "x": Trap()}, [Trap()])):
        path = torch_file(tmp_path / f"{number}.pt", content)
        what_is(path)
        what_is(pickled(tmp_path, content))
    assert not (tmp_path / "trace").exists()
