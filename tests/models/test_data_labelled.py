"""Labelled sequences: one label each, split so that every label is learned and judged."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statewise_models.config import InvalidConfig
from statewise_models.data.labelled import Labelled, LabelledSequence, read_labelled, split_labelled
from statewise_models.data.policy import InvalidData, Policy

GESTURES = """id,t,kind,ax,ay
g2,0,wave,3,30
g1,0,circle,1,10
g1,1,circle,2,20
g2,1,wave,4,40
g2,2,wave,5,50
"""


def write(tmp_path, content):
    (tmp_path / "gestures.csv").write_text(content)
    return tmp_path / "gestures.csv"


def made(counts: list[int]) -> Labelled:
    """Returns empty sequences, `counts[label]` of each label."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    nothing = np.zeros((0, 1), np.float32), np.zeros(0, np.int64)
    sequences = tuple(LabelledSequence(f"s{place}", f"s{place}", *nothing, label) for place, label in enumerate(labels))
    return Labelled(("x",), tuple(f"label {number}" for number in range(len(counts))), sequences, 0.0)


def test_a_long_file_becomes_sequences_with_their_label(tmp_path):
    """Each series keeps its own rows, in order, and its label's place among the sorted labels."""
    data = read_labelled(write(tmp_path, GESTURES), inputs=["ay", "ax"], label="kind", series="id", time="t")
    assert (data.inputs, data.labels, data.step_seconds) == (("ay", "ax"), ("circle", "wave"), 0.0)
    g1, g2 = data.sequences
    assert (g1.name, g1.label, g2.name, g2.label) == ("g1", 0, "g2", 1)
    np.testing.assert_array_equal(g2.x, [[30, 3], [40, 4], [50, 5]])
    assert g2.x.dtype == np.float32
    assert g2.time.tolist() == [0, 1, 2]


def test_labels_are_text_as_they_stand(tmp_path):
    """Numbers are names here: 10 sorts before 9, and 01 is not 1."""
    path = write(tmp_path, "id,kind,x\na,9,1\nb,10,1\nc,01,1\nd,1,1\n")
    data = read_labelled(path, inputs=["x"], label="kind", series="id")
    assert data.labels == ("01", "1", "10", "9")
    assert [data.labels[sequence.label] for sequence in data.sequences] == ["9", "10", "01", "1"]


def test_pieces_of_a_split_sequence_keep_its_label(tmp_path):
    """What a gap cuts apart is still the same gesture."""
    path = write(tmp_path, "id,t,kind,x\na,0,p,1\na,5,p,2\nb,0,q,3\n")
    data = read_labelled(path, inputs=["x"], label="kind", series="id", time="t", policy=Policy(gaps="split"))
    assert [(sequence.name, sequence.label) for sequence in data.sequences] == [("a", 0), ("a/2", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("id,kind,x\na,p,1\na,q,2\nb,p,3\na,q,4\n", "series 'a' has more than one label, 'p' and 'q': lines 3, 5"),
        ("id,kind,x\na,p,1\nb,p,2\n", "column 'kind' has one label only, 'p'; at least two are needed to tell apart"),
        ("id,kind,x\na,p,1\nb,,2\n", "column 'kind' is empty: line 3"),
        ("id,x\na,1\n", "has no column 'kind'; its columns are 'id', 'x'"),
        ("id,kind,x\na,p,one\nb,q,2\n", "column 'x' holds text where numbers are due, 'one': line 2"),
    ],
)
def test_files_without_one_clear_label_a_series_are_refused(tmp_path, content, fault):
    """A sequence is never given the label of its first row by chance."""
    path = write(tmp_path, content)
    with pytest.raises(InvalidData) as caught:
        read_labelled(path, inputs=["x"], label="kind", series="id")
    assert str(caught.value) == f"{path}: {fault}"


@settings(deadline=None)
@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_every_label_is_in_both_parts_at_about_its_share(counts, share, seed):
    """Nothing is lost or doubled, order is kept, and no label is learned without being judged or judged without being learned."""
    data = made(counts)
    training, validation = split_labelled(data, share, seed)
    names = [sequence.name for part in (training, validation) for sequence in part.sequences]
    assert sorted(names) == sorted(sequence.name for sequence in data.sequences)
    for label, count in enumerate(counts):
        judged = sum(sequence.label == label for sequence in validation.sequences)
        assert 1 <= judged <= count - 1
        assert abs(judged - count * share) <= 1
    assert training.labels == validation.labels == data.labels


def test_pieces_of_one_sequence_stay_on_one_side():
    """What is validated was not seen in training, not even another piece of a sequence that was cut at its gaps."""
    whole = made([6, 6])
    cut = tuple(dataclasses.replace(each, name=f"{each.name}/{part}") for each in whole.sequences for part in (1, 2, 3))
    training, validation = split_labelled(dataclasses.replace(whole, sequences=cut), 0.5, seed=0)
    sides = [{sequence.series for sequence in part.sequences} for part in (training, validation)]
    assert not sides[0] & sides[1]
    assert [len(part.sequences) for part in (training, validation)] == [18, 18]


def test_the_seed_decides_the_split():
    """The same seed gives the same parts, another seed others."""
    names = [[sequence.name for sequence in split_labelled(made([50, 50]), 0.3, seed)[1].sequences] for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]


def test_a_share_of_nothing_keeps_everything_for_training():
    """Even a label with a single sequence."""
    training, validation = split_labelled(made([1, 3]), 0.0, seed=0)
    assert (len(training.sequences), len(validation.sequences)) == (4, 0)


def test_the_label_is_no_input(tmp_path):
    """A network that is given the answer learns nothing that it could serve."""
    with pytest.raises(InvalidData, match="column 'kind' is both label and input"):
        read_labelled(write(tmp_path, GESTURES), inputs=["ax", "kind"], label="kind", series="id")


def test_splits_that_cannot_be_are_refused():
    """One sequence cannot be learned from and judged by; a share must leave something."""
    with pytest.raises(InvalidData, match="label 'label 1' has 1 series; training and validation need one each"):
        split_labelled(made([4, 1]), 0.5, seed=0)
    with pytest.raises(InvalidConfig, match=r"the share for validation must be at least 0 and below 1, not 1\.0"):
        split_labelled(made([4, 4]), 1.0, seed=0)
