"""TLS and keys at the command line: options and the environment, and what is said when they are missing."""

import trustme

from builders.authority import issue
from builders.served import start


def test_the_command_line_shows_a_key_over_tls(tiny_repository, tmp_path, command, monkeypatch):
    """`statewise stream` takes the authority and the file of keys as options, or from the environment."""
    pair, keys = issue(trustme.CA(), tmp_path / "tls"), tmp_path / "keys"
    keys.write_text("a-key-of-the-tests-1234\n")
    (tmp_path / "some.csv").write_text("left,right\n1,2\n3,4\n")
    running = start(tiny_repository, *pair.options(), "--bearer-key-file", str(keys))
    words = ("stream", "label", "--data", tmp_path / "some.csv")
    options = ("--address", running.address, "--tls-ca", pair.authority)
    done = command(*words, *options, "--bearer-key-file", keys)
    assert (done.status, done.out.count("\n")) == (0, 3), done.err
    refused = command(*words, *options)
    assert (refused.status, refused.err.count("\n")) == (1, 1)
    assert "authorization: takes 'Bearer KEY'" in refused.err
    missing = command(*words, *options, "--bearer-key-file", tmp_path / "none")
    assert (missing.status, missing.err.count("\n")) == (2, 1)
    monkeypatch.setenv("STATEWISE_ADDRESS", running.address)
    monkeypatch.setenv("STATEWISE_TLS_CA", str(pair.authority))
    monkeypatch.setenv("STATEWISE_BEARER_KEY_FILE", str(keys))
    assert command(*words).status == 0
    running.stop()


def test_serve_says_in_one_line_why_it_is_not_open(command, tiny_repository, tmp_path):
    """The refusal names the options that are missing; trouble with a file is status 1."""
    ended = command("serve", "--listen", "0.0.0.0:0", "--repository", tiny_repository)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "--tls-certificate, --tls-key and --bearer-key-file" in ended.err
    assert "--insecure" in ended.err
    options = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--bearer-key-file", tmp_path / "none")
    ended = command("serve", "--repository", tiny_repository, *options)
    assert (ended.status, ended.err.count("\n")) == (1, 1)
