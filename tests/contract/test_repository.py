"""The repository on disk: a version is there whole or not at all, and it is always clear which one new sessions get."""

import json
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.repository import MODEL_FILE, REPORT_FILE, SERVING_FILE, Repository, RepositoryError, check_name


def model(text="onnx"):
    return lambda folder: (folder / MODEL_FILE).write_text(text)


def everything_below(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.fixture
def repository(tmp_path):
    """An empty one; its folder does not exist yet."""
    return Repository(tmp_path / "models")


@pytest.fixture
def three(repository):
    """Three versions of `demand`, the first of which is what new sessions get."""
    for number in (1, 2, 3):
        assert repository.publish("demand", model(f"version {number}")) == number
    return repository


def serving(repository):
    return repository.root / "demand" / SERVING_FILE


def test_an_empty_repository_has_no_models_and_says_so(repository):
    """No folder is no error for those who only look; who asks for a model is told what there is."""
    assert repository.models() == []
    with pytest.raises(RepositoryError, match=r"no model 'demand' in .*models \(it has: none\)"):
        repository.versions("demand")


def test_published_versions_count_up(three):
    """Each version has its own number and file, oldest first, as they were written."""
    assert three.models() == ["demand"]
    assert three.versions("demand") == [1, 2, 3]
    assert [three.path("demand", version).read_text() for version in (1, 2, 3)] == ["version 1", "version 2", "version 3"]


def test_versions_are_ordered_as_numbers(repository):
    """The tenth version is newer than the second."""
    for _ in range(11):
        repository.publish("demand", model())
    assert repository.versions("demand") == list(range(1, 12))


def test_a_version_is_described_under_the_number_that_it_gets(repository):
    """A page that names its version is written before the version is there, and again if another takes the number meanwhile."""
    told = []

    def describe(folder, version):
        told.append(version)
        (folder / REPORT_FILE).write_text(f"version {version}")
        if told == [1]:
            repository.publish("demand", model("quicker"))

    assert repository.publish("demand", model("slower"), describe=describe) == 2
    assert told == [1, 2]
    assert repository.path("demand", 2).with_name(REPORT_FILE).read_text() == "version 2"
    assert repository.path("demand", 1).read_text() == "quicker"


def test_a_version_that_cannot_be_described_does_not_exist(repository):
    """Half of a version is none."""

    def describe(folder, version):
        (folder / REPORT_FILE).write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RepositoryError, match="No space left"):
        repository.publish("demand", model(), describe=describe)
    assert everything_below(repository.root) == []


def test_the_first_version_is_what_new_sessions_get(three):
    """Later ones take over only when they are promoted."""
    assert three.default("demand") == 1
    three.promote("demand", 3)
    assert three.default("demand") == 3
    assert three.publish("demand", model()) == 4
    assert three.default("demand") == 3
    assert three.publish("demand", model(), promote=True) == 5
    assert three.default("demand") == 5


def test_without_serving_json_new_sessions_get_the_newest(three):
    """A repository that was filled by hand needs no serving.json."""
    serving(three).unlink()
    assert three.default("demand") == 3


def test_promoting_an_older_version_rolls_back(three):
    """Any version that is there can be promoted; what was promoted before is remembered."""
    three.promote("demand", 2)
    assert json.loads(serving(three).read_text()) == {"default": 2, "previous": 1}
    assert three.default("demand") == 2


@pytest.mark.parametrize(("name", "version"), [("demand", 4), ("demand", 0), ("nope", 1)])
def test_promoting_what_is_not_there_changes_nothing(three, name, version):
    """The refusal names what there is, and serving.json stands."""
    before = everything_below(three.root)
    with pytest.raises(RepositoryError, match=r"it has: (1, 2, 3|demand)"):
        three.promote(name, version)
    assert three.default("demand") == 1
    assert everything_below(three.root) == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"default"', "{}", '{"default": null}', '{"default": "3"}', '{"default": [3]}']
)
def test_a_broken_serving_json_is_refused_by_name(three, text):
    """Nobody is served by a guess: the error names the file."""
    serving(three).write_text(text)
    with pytest.raises(RepositoryError, match=r"demand.serving\.json"):
        three.default("demand")


@pytest.mark.parametrize("version", [4, 0, -1, True, 1.0])
def test_a_serving_json_that_names_no_version_is_refused(three, version):
    """The error tells the versions that there are; `true` is not version 1."""
    serving(three).write_text(json.dumps({"default": version}))
    with pytest.raises(RepositoryError, match=rf"serving\.json names version {json.dumps(version)}, 'demand' has: 1, 2, 3"):
        three.default("demand")


def test_a_serving_json_that_is_no_text_is_refused_by_name(three):
    """Bytes that are no text, and a folder in its place, are refused as broken files are."""
    serving(three).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RepositoryError, match=r"serving\.json"):
        three.default("demand")
    serving(three).unlink()
    serving(three).mkdir()
    with pytest.raises(RepositoryError, match=r"serving\.json"):
        three.default("demand")


def test_a_promotion_that_fails_leaves_nothing_behind(three):
    """Where serving.json cannot be replaced, no half-written file stays beside it."""
    serving(three).unlink()
    serving(three).mkdir()
    before = everything_below(three.root)
    with pytest.raises(RepositoryError, match=r"cannot write .*serving\.json"):
        three.promote("demand", 2)
    assert everything_below(three.root) == before


def test_a_broken_serving_json_is_mended_by_promoting(three):
    """The way out of a broken file is the command that writes it."""
    serving(three).write_text("{")
    three.promote("demand", 2)
    assert three.default("demand") == 2


def test_keys_of_later_releases_are_let_be(three):
    """serving.json may say more than this release knows."""
    serving(three).write_text(json.dumps({"default": 2, "canary": {"version": 3, "share": 0.1}}))
    assert three.default("demand") == 2


class Interrupted(Exception):
    """What a writer raises here."""


@pytest.mark.parametrize("trouble", [Interrupted(), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_publish_leaves_nothing(three, trouble):
    """A writer that raises after it wrote half leaves the repository as it was; a full disk is told in words."""

    def write(folder):
        (folder / MODEL_FILE).write_text("half")
        raise trouble

    before = everything_below(three.root)
    with pytest.raises(RepositoryError if isinstance(trouble, OSError) else type(trouble)):
        three.publish("demand", write, promote=True)
    assert everything_below(three.root) == before
    assert three.default("demand") == 1


def test_a_first_publish_that_fails_leaves_no_model(repository):
    """Not even the model's folder remains."""
    with pytest.raises(Interrupted):
        repository.publish("demand", lambda folder: (_ for _ in ()).throw(Interrupted))
    assert everything_below(repository.root) == []


def test_a_writer_that_forgets_the_model_publishes_nothing(repository):
    """A version without model.onnx never gets a number."""
    with pytest.raises(RepositoryError, match="cannot write to"):
        repository.publish("demand", lambda folder: (folder / "notes.txt").write_text("later"))
    assert repository.models() == []


def test_a_killed_publish_is_never_served(repository):
    """After kill -9 in the middle of writing there is no version and no model; the next publish is as the first."""
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from statewise.repository import MODEL_FILE, Repository

        def write(folder):
            (folder / MODEL_FILE).write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

        Repository(Path(sys.argv[1])).publish("demand", write, promote=True)
    """
    done = subprocess.run([sys.executable, "-c", script, str(repository.root)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert any(path.read_text() == "half" for path in repository.root.rglob(MODEL_FILE)), "it was killed while it wrote"
    assert repository.models() == []
    with pytest.raises(RepositoryError, match="no model 'demand'"):
        repository.versions("demand")
    assert repository.publish("demand", model("whole")) == 1
    assert repository.default("demand") == 1
    assert repository.path("demand", 1).read_text() == "whole"


def test_what_is_being_written_is_not_seen(three):
    """While a version is written nobody sees it; when it is there, it is whole."""
    seen = []

    def write(folder):
        (folder / MODEL_FILE).write_text("half")
        seen.append((three.versions("demand"), three.models()))
        (folder / MODEL_FILE).write_text("whole")

    version = three.publish("demand", write)
    assert seen == [([1, 2, 3], ["demand"])]
    assert three.path("demand", version).read_text() == "whole"


def test_a_published_version_can_be_read_by_others(repository):
    """The server may run as another user than the training; what is published it can read."""
    path = repository.path("demand", repository.publish("demand", model()))
    assert path.parent.stat().st_mode & 0o755 == 0o755
    assert serving(repository).stat().st_mode & 0o444 == 0o444


def test_publishers_side_by_side_get_numbers_of_their_own(repository):
    """Processes that publish at once never overwrite each other's version."""
    script = """if True:
        import sys
        from pathlib import Path
        from statewise.repository import MODEL_FILE, Repository

        print("up", flush=True)
        sys.stdin.readline()
        for number in range(5):
            Repository(Path(sys.argv[1])).publish("demand", lambda folder: (folder / MODEL_FILE).write_text(sys.argv[2]))
    """
    commands = [[sys.executable, "-c", script, str(repository.root), who] for who in "abcd"]
    publishers = [subprocess.Popen(each, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for each in commands]
    assert [publisher.stdout.readline() for publisher in publishers] == ["up\n"] * 4
    for publisher in publishers:
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
    for publisher in publishers:
        publisher.communicate(timeout=60)
        assert publisher.returncode == 0
    versions = repository.versions("demand")
    assert versions == list(range(1, 21))
    assert sorted(repository.path("demand", version).read_text() for version in versions) == sorted("abcd" * 5)


@pytest.mark.parametrize("in_the_way", ["file", "folder", "full folder"])
def test_a_number_that_is_taken_is_passed_over(three, in_the_way):
    """Something that is no version but bears the next number is neither served nor replaced."""
    place = three.root / "demand" / "4"
    if in_the_way == "file":
        place.write_text("4")
    else:
        place.mkdir()
    if in_the_way == "full folder":
        (place / "notes.txt").write_text("mine")
    assert three.versions("demand") == [1, 2, 3]
    assert three.publish("demand", model("new")) == 5
    assert three.versions("demand") == [1, 2, 3, 5]
    assert place.exists()


@pytest.mark.parametrize("name", ["0", "01", "-1", "+1", "1.0", "v1", "1 ", "latest", ".incoming-x", "٣"])
def test_only_a_positive_integer_names_a_version(three, name):
    """Folders of other names are let be, whatever they hold."""
    place = three.root / "demand" / name
    place.mkdir()
    model()(place)
    assert three.versions("demand") == [1, 2, 3]


def test_a_version_without_its_file_is_none(three):
    """A folder that holds no model.onnx is not there for who asks."""
    three.path("demand", 2).unlink()
    assert three.versions("demand") == [1, 3]
    with pytest.raises(RepositoryError, match=r"'demand' has no version 2 \(it has: 1, 3\)"):
        three.path("demand", 2)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-x", "a b", "a\n", "ä", "x" * 129, "a\0b"])
def test_a_name_that_could_leave_the_repository_is_refused(repository, name):
    """Names that are paths, hidden, or no plain words name no model, for readers and writers."""
    for ask in (repository.versions, repository.default, lambda name: repository.publish(name, model())):
        with pytest.raises(RepositoryError, match="cannot name a model"):
            ask(name)
    assert not repository.root.exists()


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True))
def test_plain_names_are_taken(name):
    """Letters, digits, '_', '-' and '.' name a model."""
    assert check_name(name) == name


def test_a_folder_that_is_no_model_is_not_listed(three):
    """Only what has a version is a model."""
    (three.root / "empty").mkdir()
    (three.root / ".git").mkdir()
    (three.root / "readme.txt").write_text("hello")
    assert three.models() == ["demand"]


def test_a_repository_that_cannot_be_written_is_told_in_words(tmp_path):
    """A file where the repository should be is an error of the repository, not a traceback."""
    (tmp_path / "file").write_text("in the way")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        assert Repository(root).models() == []
        with pytest.raises(RepositoryError, match="cannot write to"):
            Repository(root).publish("demand", model())
