"""Where Chromium comes from, with an ``apt-get`` that only pretends."""

import os

import chromium_program
import pytest
from chromium_program import NoChromium, chromium

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="the pretended programs are shell scripts"
)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The only folder of programs, and root's rights."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return folder


def write(folder, name, *lines):
    (folder / name).write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    (folder / name).chmod(0o755)


def pretended(folder, *lines):
    """An ``apt-get`` that notes what it is called with, and then does this."""
    note = f'echo "$DEBIAN_FRONTEND $*" >> {folder}/calls'
    write(
        folder,
        "apt-get",
        note,
        'case "$*" in *update*) step=update;; *) step=install;; esac',
        *lines,
    )


def calls(folder):
    return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


def makes_it(folder, name="chromium"):
    return f"printf '#!/bin/sh\\n' > {folder}/{name}; /bin/chmod 755 {folder}/{name}"


@pytest.mark.parametrize("name", chromium_program.NAMES)
def test_one_that_is_there_is_taken(programs, name):
    pretended(programs)
    write(programs, name)
    assert chromium() == str(programs / name)
    assert calls(programs) == []


def test_it_is_installed_without_a_question(programs):
    pretended(programs, makes_it(programs))
    assert chromium() == str(programs / "chromium")
    [call] = calls(programs)
    assert call.startswith("noninteractive ")
    assert {"-y", "install", "chromium"} <= set(call.split())


def test_new_lists_are_fetched_where_the_old_ones_name_none(programs):
    """Also where some of them could not be fetched."""
    pretended(
        programs,
        f"if [ $step = update ]; then : > {programs}/lists; echo 'one failed' >&2; exit 100; fi",
        f"[ -e {programs}/lists ] || {{ echo 'E: no installation candidate' >&2; exit 100; }}",
        makes_it(programs),
    )
    assert chromium() == str(programs / "chromium")
    assert ["update" in call for call in calls(programs)] == [False, True, False]


def test_a_failure_says_why(programs):
    pretended(programs, "echo 'E: Unable to locate package chromium' >&2", "exit 100")
    with pytest.raises(NoChromium, match="cannot be installed: E: Unable to locate package"):
        chromium()


def test_an_installation_without_a_program_is_a_failure(programs):
    pretended(programs, "exit 0")
    with pytest.raises(NoChromium, match="installed no program"):
        chromium()


def test_one_that_hangs_is_given_up(programs, monkeypatch):
    monkeypatch.setattr(chromium_program, "PATIENCE", 0.3)
    pretended(programs, "exec /bin/sleep 30")
    with pytest.raises(NoChromium, match=r"took longer than 0\.3 seconds"):
        chromium()


def test_one_that_cannot_be_started(programs):
    (programs / "apt-get").write_text("#!/no/such/shell\n")
    (programs / "apt-get").chmod(0o755)
    with pytest.raises(NoChromium, match="cannot be installed: apt-get: No such file"):
        chromium()


def test_without_rights_or_apt_nothing_is_tried(programs, monkeypatch):
    with pytest.raises(NoChromium, match="no apt-get"):
        chromium()
    pretended(programs, makes_it(programs))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoChromium, match="only root may"):
        chromium()
    assert calls(programs) == []
