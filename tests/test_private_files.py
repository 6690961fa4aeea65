"""Files hold what people do: they are made for their owner alone, and through no link."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from faulty_collector import FaultyCollector
from helpers import tracking
from snowplow_logging.cli import main
from snowplow_logging.dead_letter import DeadLetterFile
from stored_events import wait_until

fcntl = pytest.importorskip("fcntl", reason="links and modes are tested where POSIX is")

EVENT = {"e": "pv", "eid": "0f8fad5b-d9cb-469f-a165-70867728950e", "p": "srv", "tv": "x"}
PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}
BAD = {"event": "page_view"}
VICTIM = "what somebody else wrote\n"


def modes(folder):
    """Return the mode of each file in a folder."""
    found = {}
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # SQLite removes its own when it closes
            found[file.name] = stat.S_IMODE(file.stat().st_mode)
    return found


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=["000", "022", "077", "777"])
def umask(request):
    """Have another umask."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def victim(tmp_path):
    """Give a file of somebody else's."""
    file = tmp_path / "victim"
    file.write_text(VICTIM)
    return file


def test_all_files_are_their_owners_alone(tmp_path, umask):
    """The store with all beside it, dead letters with theirs, and a resume point."""
    folder = tmp_path / "files"
    folder.mkdir()
    folder.chmod(0o700)
    store, letters, resume = folder / "store.db", folder / "dead.jsonl", folder / "resume"
    with FaultyCollector(default=403) as collector:
        settings = {"store": store, "dead_letter": letters, "max_retry_delay": 0.05}
        with tracking(collector, shutdown_timeout=10, **settings) as tracked:
            tracked.log(PAGE)
            tracked.log(BAD)
            assert tracked.handler.flush(20)
            made = modes(folder)
        small = DeadLetterFile(letters, max_bytes=1, files=3)
        for _ in range(3):
            small.write([{"e": "se"}], "no")
        made |= modes(folder)
        collector.default = 200
        main(["replay", str(letters), "--endpoint", collector.endpoint, "--resume", str(resume)])
    made |= modes(folder)
    expected = {"store.db", "store.db-wal", "store.db-shm", "store.db-owners", "dead.jsonl"}
    expected |= {"dead.jsonl.lock", "dead.jsonl.1", "dead.jsonl.2", "resume"}
    assert expected <= made.keys()
    assert set(made.values()) == {0o600}


def test_a_mode_that_was_given_is_kept(tmp_path):
    """Who lets another program read dead letters goes on doing so, until they are rotated."""
    path = tmp_path / "dead.jsonl"
    path.touch()
    path.chmod(0o640)
    DeadLetterFile(path).write([{"e": "se"}], "no")
    assert modes(tmp_path) == {"dead.jsonl": 0o640, "dead.jsonl.lock": 0o600}
    DeadLetterFile(path, max_bytes=1).write([{"e": "se"}], "no")
    assert modes(tmp_path)["dead.jsonl"] == 0o600


class TestLinks:
    """A link that somebody has put where a file is to be made."""

    @pytest.mark.parametrize("dangles", [False, True])
    @pytest.mark.parametrize("name", ["dead.jsonl", "dead.jsonl.lock"])
    def test_is_not_followed_for_dead_letters(self, name, dangles, victim, reports):
        """Nothing is written through it, made at its end or locked; it is said, and counted."""
        if dangles:
            victim.unlink()
        link = victim.with_name(name)
        link.symlink_to(victim)
        with tracking(dead_letter=victim.with_name("dead.jsonl")) as tracked:
            tracked.log(BAD)
            assert tracked.handler.flush(20)
        assert victim.exists() is not dangles
        assert dangles or victim.read_text() == VICTIM
        assert link.is_symlink()
        assert any("symbolic link, which is not followed" in report for report in reports)

    def test_is_not_followed_for_those_that_were_rotated(self, victim):
        """The file that becomes PATH.1 takes the place of the link, not of what it names."""
        path = victim.with_name("dead.jsonl")
        for number in range(1, 10):
            path.with_name(f"dead.jsonl.{number}").symlink_to(victim)
        DeadLetterFile(path).write([EVENT], "no")
        letters = DeadLetterFile(path, max_bytes=1)
        for _ in range(3):
            assert letters.write([EVENT], "no") == 0
        assert victim.read_text() == VICTIM

    @pytest.mark.parametrize("dangles", [False, True])
    @pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", "-owners", "-reserve"])
    def test_is_not_followed_for_a_store(self, suffix, dangles, victim, reports):
        """Events stay in memory, or the link is taken away; its end is left alone."""
        if dangles:
            victim.unlink()
        link = victim.with_name(f"store.db{suffix}")
        link.symlink_to(victim)
        with FaultyCollector() as collector:
            store = victim.with_name("store.db")
            with tracking(collector, store=store, shutdown_timeout=10) as tracked:
                for _ in range(20):
                    tracked.log(PAGE)
                assert tracked.handler.flush(20)
            assert len(collector.events) == 20
        assert victim.exists() is not dangles
        assert dangles or victim.read_text() == VICTIM
        if not suffix:
            assert any("symbolic link" in report for report in reports)

    @pytest.mark.parametrize("name", ["resume", "resume.new"])
    def test_is_not_followed_for_a_resume_point(self, name, victim, capsys):
        """The target of a link that was named like the new resume point was overwritten."""
        victim.with_name(name).symlink_to(victim)
        file = victim.with_name("dead.jsonl")
        file.write_text(f"{json.dumps({'snowplow': EVENT})}\n")
        resume = victim.with_name("resume")
        with FaultyCollector() as collector:
            arguments = ["--endpoint", collector.endpoint, "--resume", str(resume)]
            status = main(["replay", str(file), *arguments])
        said = capsys.readouterr().err
        assert victim.read_text() == VICTIM
        if name == "resume":
            assert status == 2
            assert "symbolic link, which is not followed" in said
        else:
            assert status == 0
            assert json.loads(resume.read_text())["lines"] == 1
            assert not resume.is_symlink()

    def test_may_be_in_the_way_to_a_file(self, tmp_path):
        """A folder that is a link is what an operator has made."""
        (tmp_path / "data").mkdir()
        (tmp_path / "current").symlink_to(tmp_path / "data")
        DeadLetterFile(tmp_path / "current" / "dead.jsonl").write([EVENT], "no")
        assert (tmp_path / "data" / "dead.jsonl").exists()


class TestStrangers:
    """Others who may write to the folder, or read the files."""

    @pytest.mark.parametrize("name", ["dead.jsonl", "dead.jsonl.lock"])
    def test_a_pipe_holds_nobody_up(self, name, tmp_path):
        """Nobody reads from it, and nobody ever will."""
        os.mkfifo(tmp_path / name)
        with pytest.raises(OSError, match="is not a file"):
            DeadLetterFile(tmp_path / "dead.jsonl").write([EVENT], "no")

    @pytest.mark.parametrize("exists", [False, True], ids=["new", "old"])
    @pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
    @pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm", "-owners", "-reserve"])
    def test_what_is_no_file_holds_up_no_store(self, suffix, kind, exists, tmp_path, monkeypatch):
        """SQLite waited for a pipe in the place of its journal, and nothing was sent any more."""
        monkeypatch.chdir(tmp_path)  # whose name may be too long for a socket
        store, place = Path("s.db"), Path(f"s.db{suffix}")
        with FaultyCollector() as collector:
            if exists:
                with tracking(collector, store=store) as tracked:
                    tracked.log(PAGE)
                place.unlink(missing_ok=True)
            if kind == "pipe":
                os.mkfifo(place)
            elif kind == "folder":
                place.mkdir()
            else:
                with socket.socket(socket.AF_UNIX) as bound:
                    bound.bind(str(place))
            with tracking(collector, store=store, shutdown_timeout=10) as tracked:
                for _ in range(20):
                    tracked.log(PAGE)
                assert tracked.handler.flush(20)
            assert len(collector.events) == 20 + exists

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    @pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm", "-owners", "-reserve"])
    def test_a_store_of_anothers_in_an_open_folder_is_refused(self, suffix, tmp_path, reports):
        """He could read what is written there, or have SQLite believe what he has written."""
        folder = tmp_path / "open"
        folder.mkdir()
        store = folder / "store.db"
        with FaultyCollector() as collector:
            with tracking(collector, store=store) as tracked:
                tracked.log(PAGE)
            # Whichever thread lets go of the store may do so a moment later.
            wait_until(
                lambda: {one.name for one in folder.iterdir()} == {"store.db", "store.db-owners"}
            )
            folder.chmod(0o1777)
            place = folder / f"store.db{suffix}"
            before = place.read_bytes() if place.exists() else b""
            place.touch()
            place.chmod(0o666)
            os.chown(place, 65_534, 65_534)
            with tracking(collector, store=store, shutdown_timeout=10) as tracked:
                for _ in range(20):
                    tracked.log(PAGE)
                assert tracked.handler.flush(20)
            assert len(collector.events) == 21
        assert place.read_bytes() == before
        if suffix != "-reserve":  # without which a store works
            assert any("anyone may write to" in report for report in reports)

    def test_a_hard_link_in_an_open_folder_is_refused(self, victim):
        """Anyone can put one there, to a file that is not his."""
        folder = victim.with_name("open")
        folder.mkdir()
        folder.chmod(0o1777)
        path = folder / "dead.jsonl"
        os.link(victim, path)
        with pytest.raises(OSError, match="anyone may write to"):
            DeadLetterFile(path).write([EVENT], "no")
        assert victim.read_text() == VICTIM

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_a_file_of_anothers_in_an_open_folder_is_refused(self, tmp_path):
        """He could read what is written there."""
        folder = tmp_path / "open"
        folder.mkdir()
        folder.chmod(0o1777)
        path = folder / "dead.jsonl"
        path.touch()
        os.chown(path, 65_534, 65_534)
        with pytest.raises(OSError, match="anyone may write to"):
            DeadLetterFile(path).write([EVENT], "no")
        assert not path.read_bytes()
        folder.chmod(0o770)  # where they share a group
        DeadLetterFile(path).write([EVENT], "no")
        assert path.read_bytes()

    @pytest.mark.parametrize("name", ["dead.jsonl", "dead.jsonl.lock"])
    @pytest.mark.parametrize("shared", [False, True])
    def test_a_lock_holds_up_no_delivery(self, name, shared, tmp_path):
        """Whoever can open the file can lock it, for as long as he likes; no letter is lost."""
        path = tmp_path / "dead.jsonl"
        DeadLetterFile(path).write([EVENT], "before")
        program = """
            import fcntl, sys
            file = open(sys.argv[1], "rb")
            fcntl.flock(file, fcntl.LOCK_SH if sys.argv[2] == "True" else fcntl.LOCK_EX)
            print("locked", flush=True)
            sys.stdin.read()
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), tmp_path / name, str(shared)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as locker:
            assert locker.stdout.readline() == b"locked\n"
            begin = time.monotonic()
            with FaultyCollector(default=403) as collector:
                settings = {"dead_letter": path, "batch_size": 1, "shutdown_timeout": 30}
                with tracking(collector, **settings) as tracked:
                    for _ in range(20):
                        tracked.log(PAGE)
                    assert tracked.handler.flush(60)
                    assert tracked.handler.stats.failed == 20
            assert time.monotonic() - begin < 20  # it was a wait of two seconds for each letter
            locker.stdin.close()
        assert len(path.read_text().splitlines()) == 21

    def test_a_lock_that_is_kept_keeps_the_file_small(self, tmp_path):
        """Nothing is rotated meanwhile, and the file takes twice its size at most."""
        path = tmp_path / "dead.jsonl"
        letters = DeadLetterFile(path, max_bytes=1_000)
        letters.write([EVENT], "no")
        with path.with_name("dead.jsonl.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(TimeoutError):
                for _ in range(100):
                    letters.write([EVENT], "no")
            with pytest.raises(TimeoutError, match="keeps its lock"):
                letters.write([EVENT], "no")
            assert 1_000 < path.stat().st_size <= 2_000
        letters.write([EVENT], "no")
        assert path.with_name("dead.jsonl.1").exists()
        assert all(json.loads(line) for line in path.read_text().splitlines())

    def test_the_lock_is_not_for_others(self, tmp_path):
        """Who may read the letters, because their mode says so, may not lock them."""
        path = tmp_path / "dead.jsonl"
        path.touch()
        path.chmod(0o644)
        DeadLetterFile(path).write([EVENT], "no")
        assert modes(tmp_path)["dead.jsonl.lock"] == 0o600


def test_nothing_is_left_open(tmp_path):
    """What is refused is closed."""
    (tmp_path / "dead.jsonl").mkdir()
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("there is no list of what is open")
    for _ in range(5):
        with pytest.raises(OSError, match=r"."):
            DeadLetterFile(tmp_path / "dead.jsonl").write([EVENT], "no")
    names = [os.path.realpath(descriptor) for descriptor in descriptors.iterdir()]
    assert not [name for name in names if name.startswith(str(tmp_path))]
