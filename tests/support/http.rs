//! HTTP servers of a few lines: one that answers as a test says, and a forward proxy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came: its first line, its headers in lower case, its body.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A server that keeps what it got; it serves as long as the test binary.
#[derive(Clone)]
pub(crate) struct Server {
    address: std::net::SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Server {
    /// Answers each request by what `answer` returns: a status and further header lines.
    pub(crate) fn answering(answer: impl Fn(&Got) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::start(move |got, mut client| {
            let (status, headers) = answer(got);
            let _ = write!(
                client,
                "HTTP/1.1 {status} Said\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"
            );
        })
    }

    /// Forwards every request to `upstream`, whatever host it names; CONNECT opens a tunnel there. `prefix` is cut off paths.
    pub(crate) fn forwarding(upstream: &str, prefix: &'static str) -> Self {
        let upstream = upstream.trim_start_matches("http://").to_owned();
        Self::start(move |got, mut client| {
            let mut server = TcpStream::connect(&upstream).unwrap();
            if got.line.starts_with("CONNECT ") {
                client.write_all(b"HTTP/1.1 200 Open\r\n\r\n").unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
                let _ = std::io::copy(&mut server, &mut client);
                return;
            }
            let mut words = got.line.split(' ');
            let (method, target) = (words.next().unwrap(), words.next().unwrap());
            let path = match target.strip_prefix("http://") {
                Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
                None => target,
            };
            let path = path.strip_prefix(prefix).unwrap_or("/outside-of-the-prefix");
            let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
            for (name, value) in &got.headers {
                if !matches!(name.as_str(), "connection" | "expect" | "proxy-authorization") {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
            }
            server.write_all(format!("{head}\r\n").as_bytes()).unwrap();
            server.write_all(&got.body).unwrap();
            let _ = std::io::copy(&mut server, &mut client);
        })
    }

    fn start(serve: impl Fn(&Got, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, got) = (listener.local_addr().unwrap(), Arc::default());
        let (serve, keep): (_, Arc<Mutex<Vec<Got>>>) = (Arc::new(serve), Arc::clone(&got));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (serve, keep) = (Arc::clone(&serve), Arc::clone(&keep));
                std::thread::spawn(move || {
                    if let Some(got) = read(&client) {
                        keep.lock().unwrap().push(got.clone());
                        serve(&got, client);
                    }
                });
            }
        });
        Self { address, got }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns what came so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

fn read(client: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    if line.trim().is_empty() {
        return None;
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut got = Got {
        line: line.trim_end().to_owned(),
        headers,
        body: Vec::new(),
    };
    if got.header("expect").is_some() {
        (&*client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length = got
        .header("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    got.body = vec![0; length];
    reader.read_exact(&mut got.body).ok()?;
    Some(got)
}
