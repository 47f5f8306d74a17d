//! A moto server: an S3 store that knows storage classes and their thawing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::wait;

/// A running server, ended when it is dropped.
pub(crate) struct Moto {
    child: Child,
    endpoint: String,
    log: tempfile::NamedTempFile,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let program = std::env::var("WIREVAULT_TEST_MOTO")
            .expect("WIREVAULT_TEST_MOTO names no moto_server: run the tests by `make test`, which sets it up");
        for _ in 0..5 {
            if let Some(moto) = Self::start_on_a_free_port(&program) {
                return moto;
            }
        }
        panic!("moto does not start");
    }

    /// Another program may take the port before moto does: then moto ends, and there is none.
    fn start_on_a_free_port(program: &str) -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let endpoint = format!("http://127.0.0.1:{port}");
        let mut moto = Self { child, endpoint, log };
        let (mut listens, mut ended) = (false, false);
        wait::until("moto listens, or ends", || {
            // It says so once the port is its own.
            listens = moto.log().contains("Running on");
            ended = moto.child.try_wait().unwrap().is_some();
            listens || ended
        });
        (listens && TcpStream::connect(("127.0.0.1", port)).is_ok()).then_some(moto)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// Returns how many requests were answered with a status so far.
    pub(crate) fn answered(&self, status: u16) -> usize {
        let status = format!("\" {status} ");
        self.log().lines().filter(|line| line.contains(&status)).count()
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// moto checks no signature until it is told to, so a bare PUT makes a bucket.
    pub(crate) fn create_bucket(&self, bucket: &str) {
        self.send("PUT", &format!("/{bucket}"), "");
    }

    /// Makes a bucket whose objects are locked for a week, unless their put says something else.
    pub(crate) fn create_locked_bucket(&self, bucket: &str) {
        self.send_with(
            "PUT",
            &format!("/{bucket}"),
            "x-amz-bucket-object-lock-enabled: true\r\n",
            "",
        );
        let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                    <Mode>COMPLIANCE</Mode><Days>7</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
        self.send("PUT", &format!("/{bucket}?object-lock"), rule);
    }

    /// Moves an object into a cold storage class, as a rule of the bucket does.
    pub(crate) fn freeze(&self, path: &str) {
        // Whoever is named may read the source; signatures are not checked.
        let who =
            "AWS4-HMAC-SHA256 Credential=tester/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let headers = format!("Authorization: {who}\r\nx-amz-copy-source: {path}\r\nx-amz-storage-class: GLACIER\r\n");
        self.send_with("PUT", path, &headers, "");
    }

    /// A thawed object can be read only after it was looked at so often.
    pub(crate) fn thaw_slowly(&self, looks: u32) {
        let body = format!(
            r#"{{"model_name": "s3::keyrestore", "transition": {{"progression": "manual", "times": {looks}}}}}"#
        );
        self.send("POST", "/moto-api/state-manager/set-transition", &body);
    }

    fn send(&self, method: &str, path: &str, body: &str) {
        self.send_with(method, path, "", body);
    }

    fn send_with(&self, method: &str, path: &str, headers: &str, body: &str) {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
