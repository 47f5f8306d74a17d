"""A store that fails now and then, for benchmarks of what goes on meanwhile."""
import http.client
import http.server
import os
import random
import socketserver
import threading
import urllib.parse

BACKEND = urllib.parse.urlparse(os.environ["S3_ENDPOINT"])


class Faulty(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the store; some it answers itself with 503, before or after they were done."""

    protocol_version = "HTTP/1.1"
    fail, away, failed, passed = 0.0, False, 0, 0

    def log_message(self, *_):
        pass

    def one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if Faulty.away:
            self.close_connection = True
            return
        strike = random.random() < Faulty.fail
        if strike and random.random() < 0.5:
            return self.refuse()
        backend = http.client.HTTPConnection(BACKEND.hostname, BACKEND.port)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")}
        backend.request(self.command, self.path, body, headers)
        answer = backend.getresponse()
        data = answer.read()
        if strike:
            return self.refuse()
        Faulty.passed += 1
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self):
        Faulty.failed += 1
        self.send_response_only(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = one


class Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_):
        pass


def proxy():
    server = Threads(("127.0.0.1", 0), Faulty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Signatures cover the name of the host, which has to be what the store hears.
    return f"http://127.0.0.1:{server.server_address[1]}"
