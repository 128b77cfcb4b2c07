"""Reading JSON, and replacing files and folders."""

import json

import pytest

from fpsset.errors import InputError
from fpsset.runtime.files import parse_json, read_json


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1', "Expecting ','"),
        (b'{"a": "\x80"}', "can't decode byte 0x80"),
        (b'{"a": ' + b"9" * 4301 + b"}", "4300 digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": [-Infinity]}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds 1e999"),
        (b'{"a": 1, "b": {"c": 2, "c": 3}}', "holds 'c' twice"),
        (b"[1]", "is a list, not a dict"),
        (None, "No such file"),
    ],
)
def test_what_is_no_json_is_one_line(tmp_path, content, problem):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_json(path, "write it again")
    message = str(error.value)
    assert message.startswith(f"{path}: cannot be read as JSON (") and message.endswith("; write it again")
    assert problem in message and "\n" not in message


def test_json_comes_back(tmp_path):
    value = {"a": [1, 2.5, None, True, "\u00e9"], "b": {}}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json", "") == value
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(value, ensure_ascii=False).encode())
    assert read_json(tmp_path / "a.json", "") == value
    assert parse_json("[1e308, 0]", "a", "", list) == [1e308, 0]
