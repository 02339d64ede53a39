"""What `connect` takes: everything that is wrong is told at once, and nothing is asked of any server."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

import flash_kv
from flash_kv import OptionsError


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"url": "localhost:7380"}, "url must be"),
        ({"url": "ftp://localhost"}, "url must be"),
        ({"url": "http://"}, "url must be"),
        ({"url": "http://localhost:99999"}, "url must be"),
        ({"url": "http://localhost?x=1"}, "url must be"),
        ({"url": None}, "url must be"),
        ({"token": ""}, "token must be"),
        ({"token": "a\nb"}, "token must be"),
        ({"timeout_s": 0}, "timeout_s must be"),
        ({"timeout_s": "1"}, "timeout_s must be"),
        ({"timeout_s": float("inf")}, "timeout_s must be"),
        ({"retries": -1}, "retries must be"),
        ({"connections_max": 0}, "connections_max must be"),
        ({"key_file": "key.pem"}, "key_file needs"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], fault: str) -> None:
    for connect in (flash_kv.connect, flash_kv.connect_async):
        with pytest.raises(OptionsError, match=fault):
            connect(**{"url": "http://localhost:1", **settings})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(OptionsError) as caught:
        flash_kv.connect("nowhere", timeout_s=-1, retries=0.5)
    assert len(caught.value.faults) == 3


def test_the_token_stands_in_no_text() -> None:
    db = flash_kv.connect("http://localhost:1/", token="secret-token")
    assert "secret" not in repr(db) + repr(db._settings)
    db.close()


@pytest.mark.parametrize("connect", [flash_kv.connect, flash_kv.connect_async])
def test_a_handle_is_pickled_with_its_settings(connect: Any) -> None:
    db = connect("http://localhost:1/store/", token="t", timeout_s=3, retries=1)
    again = pickle.loads(pickle.dumps(db))
    assert type(again) is type(db)
    assert again._settings == db._settings
    assert again.url == "http://localhost:1/store"


def test_importing_the_package_needs_and_imports_nothing_of_the_client() -> None:
    program = (
        "import sys; sys.modules['httpx'] = None; import flash_kv\n"
        "try:\n    flash_kv.connect('http://localhost:1')\n"
        "except flash_kv.ClientUnavailableError as error:\n    print(error)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'flash-kv[client]'" in told.stdout
