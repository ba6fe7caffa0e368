from __future__ import annotations

from pathlib import Path

import pytest

from dohproxy.config.settings import Policy, PolicyList
from dohproxy.errors import ConfigError
from dohproxy.model import Action
from dohproxy.policy import compiled
from dohproxy.policy.compiled import REPORTED, CompiledList, cache_directory, load_list, load_lists
from dohproxy.policy.keys import query_key
from dohproxy.wire import names


@pytest.fixture
def ads(tmp_path: Path) -> PolicyList:
    (tmp_path / "ads.txt").write_text(
        "# ads\nads.example\n*.wild.example\n0.0.0.0 host.example\n@@||ok.example^\nwhat is this\n"
    )
    return PolicyList("ads", tmp_path / "ads.txt", Action.NXDOMAIN)


def covered(found: CompiledList, *texts: str) -> list[str]:
    return [text for text in texts if found.covering(query_key(names.from_text(text)))]


def check(found: CompiledList) -> None:
    asked = ("ads.example", "x.ads.example", "wild.example", "x.wild.example", "host.example", "x.host.example", "ok.example")
    assert covered(found, *asked) == ["ads.example", "x.ads.example", "x.wild.example", "host.example"]
    assert found.exempting(query_key(names.from_text("www.ok.example")))
    summary = found.summary
    assert (summary.rules, summary.exceptions, summary.unreadable) == (3, 1, 1)
    assert (summary.problems[0].line, summary.problems[0].text) == (6, "what is this")


def only_file(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


def forbid_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(compiled, "_compile")


def test_a_list_is_compiled_once_and_mapped_afterwards(
    ads: PolicyList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "state" / "lists"
    check(load_list(ads, cache))
    assert only_file(cache).suffix == ".list"
    forbid_compiling(monkeypatch)
    check(load_list(ads, cache))


def test_a_changed_list_is_compiled_anew(ads: PolicyList, tmp_path: Path) -> None:
    load_list(ads, tmp_path / "cache")
    ads.file.write_text("other.example\n")
    assert covered(load_list(ads, tmp_path / "cache"), "ads.example", "other.example") == ["other.example"]
    assert only_file(tmp_path / "cache")


def test_a_large_list_is_compiled_by_another_process(ads: PolicyList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_LARGE", 1)
    forbid_compiling(monkeypatch)
    check(load_list(ads, tmp_path / "cache"))
    assert only_file(tmp_path / "cache").suffix == ".list"


def test_where_there_can_be_no_other_process_a_large_list_is_compiled_here(
    ads: PolicyList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_LARGE", 1)
    monkeypatch.setattr("sys.executable", str(tmp_path / "missing"))
    check(load_list(ads, tmp_path / "cache"))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "garbage"])
def test_a_damaged_compiled_file_is_made_anew(ads: PolicyList, tmp_path: Path, damage: str) -> None:
    load_list(ads, tmp_path / "cache")
    file = only_file(tmp_path / "cache")
    good = file.read_bytes()
    flipped = bytes([*good[:40], good[40] ^ 1, *good[41:]])
    file.write_bytes({"cut": good[:-9], "flip": flipped, "empty": b"", "garbage": b"x" * 500}[damage])
    check(load_list(ads, tmp_path / "cache"))
    assert file.read_bytes() == good


def test_a_list_that_is_in_use_may_be_replaced(ads: PolicyList, tmp_path: Path) -> None:
    before = load_list(ads, tmp_path / "cache")
    ads.file.write_text("other.example\n" * 1000)
    load_list(ads, tmp_path / "cache")
    assert covered(before, "ads.example", "other.example") == ["ads.example"]


def test_without_a_place_to_write_the_list_is_kept_in_memory(ads: PolicyList, tmp_path: Path) -> None:
    check(load_list(ads, None))
    (tmp_path / "file").write_text("")
    check(load_list(ads, tmp_path / "file" / "cache"))


def test_every_missing_list_is_a_configuration_error(ads: PolicyList, tmp_path: Path) -> None:
    gone = [PolicyList(name, tmp_path / name, Action.NXDOMAIN) for name in ("one", "two")]
    with pytest.raises(ConfigError, match=r"(?s)one.*No such file.*two.*No such file"):
        load_lists(Policy((gone[0], ads, gone[1])), None)


def test_only_the_first_unreadable_lines_are_kept(ads: PolicyList) -> None:
    ads.file.write_text("a b c\n" * 100)
    summary = load_list(ads, None).summary
    assert summary.unreadable == 100 and [problem.line for problem in summary.problems] == list(range(1, REPORTED + 1))


def test_a_rule_is_found_again_in_its_file(ads: PolicyList) -> None:
    ads.file.write_bytes("\ufeffbücher.example\r\n# x.ads.example\nADS.example # why\n".encode())
    found = load_list(ads, None)

    def line_of(text: str) -> tuple[int, str]:
        return found.line_of(found.covering(query_key(names.from_text(text)))[-1])

    assert line_of("x.ads.example") == (3, "ADS.example # why")
    assert line_of("bücher.example") == (1, "bücher.example")
    key = found.covering(query_key(names.from_text("ads.example")))[-1]
    ads.file.write_text("other.example\n")
    assert found.line_of(key) == (0, "")
    ads.file.unlink()
    assert found.line_of(key) == (0, "")


def test_the_cache_directory_is_the_service_managers_or_the_users() -> None:
    assert cache_directory({"CACHE_DIRECTORY": "/var/cache/dohproxy", "HOME": "/root"}) == Path("/var/cache/dohproxy")
    assert cache_directory({"XDG_CACHE_HOME": "/x", "HOME": "/root"}) == Path("/x/dohproxy")
    assert cache_directory({"HOME": "/home/me"}) == Path("/home/me/.cache/dohproxy")
