"""Downloads from a server on this machine that can cut connections, refuse, and send something else."""

import hashlib
import http.server
import socket
import threading

import pytest
from raising import told

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets import fetch as module
from asecalc_ml.potentials.datasets.fetch import RemoteFile, fetch

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`, honours Range, and drops the connection after `server.cuts.pop(0)` bytes."""

    def do_GET(self):
        begin = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.server.ranges else 0
        self.server.asked.append(begin)
        if self.path != "/data/tiny.bin":
            return self.send_error(404)
        if begin >= len(self.server.content):
            return self.send_error(416)
        body = self.server.content[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.cuts, server.ranges, server.asked = CONTENT, [], True, []
    server.url = f"http://127.0.0.1:{server.server_port}/data"
    monkeypatch.setitem(module.SOURCES, "tiny", (RemoteFile("tiny.bin", server.url, len(CONTENT), SHA256),))
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_right_file_arrives_whole_and_once(server, tmp_path):
    (path,) = fetch("tiny", tmp_path / "new", quiet=True)
    assert path == tmp_path / "new" / "tiny.bin"
    assert path.read_bytes() == CONTENT
    assert fetch("tiny", tmp_path / "new") == [path]
    assert server.asked == [0]  # the second call found it


def test_a_file_may_have_another_name_where_it_is_published(server, tmp_path, monkeypatch):
    file = RemoteFile("set_tiny.bin", server.url, len(CONTENT), SHA256, published_name="tiny.bin")
    monkeypatch.setitem(module.SOURCES, "tiny", (file,))
    (path,) = fetch("tiny", tmp_path, quiet=True)
    assert (path.name, path.read_bytes()) == ("set_tiny.bin", CONTENT)


def test_a_cut_connection_is_resumed_where_it_broke(server, tmp_path):
    server.cuts = [100_000, 50_000]
    (path,) = fetch("tiny", tmp_path, quiet=True)
    assert path.read_bytes() == CONTENT
    assert server.asked == [0, 100_000, 150_000]


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.cuts, server.ranges = [100_000], False
    (path,) = fetch("tiny", tmp_path, quiet=True)
    assert path.read_bytes() == CONTENT


def test_what_arrived_is_kept_for_the_next_call(server, tmp_path):
    server.cuts = [10_000] * module.ATTEMPTS
    with pytest.raises(DatasetError, check=told(value=50_000, allowed=[256_000], remedy="again")):
        fetch("tiny", tmp_path, quiet=True)
    assert not (tmp_path / "tiny.bin").exists()
    fetch("tiny", tmp_path, quiet=True)
    assert server.asked[-1] == 50_000


def test_a_wrong_hash_leaves_nothing_behind(server, tmp_path):
    server.content = CONTENT[::-1]
    with pytest.raises(DatasetError, check=told(name="tiny.bin", value=True, allowed=[SHA256])):
        fetch("tiny", tmp_path, quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_page_in_place_of_the_file_is_refused(server, tmp_path):
    server.content = b"<html>log in first</html>"
    with pytest.raises(DatasetError, check=told(name="tiny.bin", value=25, allowed=[256_000])):
        fetch("tiny", tmp_path, quiet=True)


def test_a_file_of_the_same_name_is_not_overwritten(server, tmp_path):
    (tmp_path / "tiny.bin").write_bytes(b"mine")
    check = told(name=str(tmp_path / "tiny.bin"), allowed=[SHA256], remedy="move it away")
    with pytest.raises(DatasetError, check=check):
        fetch("tiny", tmp_path, quiet=True)
    assert (tmp_path / "tiny.bin").read_bytes() == b"mine"


def test_no_network_says_so_and_names_the_address(server, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(DatasetError, check=told(name=f"{nobody}/tiny.bin", remedy="network")):
        fetch("tiny", tmp_path, url=nobody, quiet=True)


def test_a_missing_file_is_the_servers_word(server, tmp_path):
    with pytest.raises(DatasetError, check=told(name="/elsewhere/", value=404)):
        fetch("tiny", tmp_path, url=server.url + "/elsewhere", quiet=True)


def test_only_http_addresses(server, tmp_path):
    with pytest.raises(DatasetError, check=told(value="file:///etc", allowed=["https://"], remedy="http")):
        fetch("tiny", tmp_path, url="file:///etc", quiet=True)


def test_an_unknown_name_gets_the_nearest(tmp_path):
    check = told(value="rmd17-etanol", allowed=["rmd17-ethanol"], remedy="rmd17-ethanol")
    with pytest.raises(DatasetError, match="'rmd17-ethanol'", check=check):
        fetch("rmd17-etanol", tmp_path)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, check=told(name="below", remedy="folder")):
        fetch("rmd17-ethanol", tmp_path / "file" / "below")


def test_plain_lines_without_a_terminal(server, tmp_path, capsys):
    fetch("tiny", tmp_path)
    captured = capsys.readouterr()
    assert "tiny.bin: done" in captured.err
    assert captured.out == ""


#: Where the reference data lie, by how the names begin.
FOLDERS = {"rmd17": "rmd17", "mlearn": "mlearn/Si", "ani": "ani1", "ean": "ean"}


def test_published_hashes_are_those_of_the_real_files(shared_data):
    for file in (file for files in module.SOURCES.values() for file in files):
        folder = FOLDERS[file.name.split("_")[0]]
        content = (shared_data / folder / (file.published_name or file.name)).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.n_bytes, file.sha256)
