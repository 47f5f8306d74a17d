//! A scripted primary: a replication ID, a stream and a backlog, which a test makes go where a real server seldom goes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A primary, as long as the test process lives.
pub(crate) struct Primary {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

/// What it does next.
type Turn = Box<dyn FnOnce(&mut State) + Send>;

/// What it is.
pub(crate) struct State {
    pub(crate) id: String,
    /// The history that it continues, and the offset where it left that.
    pub(crate) before: Option<(String, u64)>,
    /// The offset of the first byte of the stream that it still has.
    pub(crate) from: u64,
    pub(crate) stream: Vec<u8>,
    /// Whether it answers every PSYNC with a full resynchronization, behind another command, and ends the connection.
    pub(crate) is_broken: bool,
    /// Happens when the next PSYNC comes that asks for an offset, before that is answered.
    pub(crate) at_psync: Option<Turn>,
    /// What was acknowledged: by which connection that follows the stream, and how far.
    pub(crate) acknowledged: Vec<(u64, u64)>,
    /// Answers to PSYNC that asked for an offset, as they were sent.
    pub(crate) answers: Vec<String>,
    /// Connections that are older are ended.
    generation: u64,
    followers: u64,
}

impl State {
    pub(crate) fn offset(&self) -> u64 {
        self.from + self.stream.len() as u64
    }

    /// Adds a command to the stream.
    pub(crate) fn write(&mut self, words: &[&str]) {
        self.stream.extend(format!("*{}\r\n", words.len()).into_bytes());
        for word in words {
            self.stream
                .extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
    }

    /// Begins a history of its own here, as a replica that is promoted.
    pub(crate) fn promote(&mut self, id: &str) {
        let offset = self.offset();
        self.before = Some((std::mem::replace(&mut self.id, id.to_owned()), offset));
    }

    /// Goes back to an offset, with the same ID.
    pub(crate) fn go_back(&mut self, to: u64) {
        self.stream.truncate((to - self.from) as usize);
    }

    /// Has nothing of its stream any more, as after a restart.
    pub(crate) fn forget(&mut self) {
        self.from = self.offset();
        self.stream.clear();
    }

    /// Ends all connections.
    pub(crate) fn cut(&mut self) {
        self.generation += 1;
    }

    fn info(&self) -> String {
        let (second, left) = match &self.before {
            Some((id, offset)) => (id.clone(), (offset + 1).to_string()),
            None => ("0".repeat(40), "-1".to_owned()),
        };
        format!(
            "redis_version:7.2.0\r\nrole:master\r\ncluster_enabled:0\r\nmaster_replid:{}\r\nmaster_replid2:{second}\r\n\
             master_repl_offset:{}\r\nsecond_repl_offset:{left}\r\nrepl_backlog_active:1\r\nrepl_backlog_size:1048576\r\n\
             repl_backlog_first_byte_offset:{}\r\n# Keyspace\r\n",
            self.id,
            self.offset(),
            self.from + 1
        )
    }

    /// Returns the answer to PSYNC, and from where the stream goes on.
    fn synchronize(&self, id: &str, next: &str) -> (String, u64) {
        let end = match &self.before {
            _ if id == self.id => Some(self.offset()),
            Some((before, offset)) if id == before => Some(*offset),
            _ => None,
        };
        let asked = next.parse::<u64>().ok().and_then(|next| next.checked_sub(1));
        match (asked, end) {
            (Some(asked), Some(end)) if (self.from..=end).contains(&asked) && !self.is_broken => {
                (format!("+CONTINUE {}", self.id), asked)
            }
            _ => (format!("+FULLRESYNC {} {}", self.id, self.offset()), self.offset()),
        }
    }
}

impl Primary {
    /// Starts one whose ID is a digit, over and over, and whose stream begins at an offset.
    pub(crate) fn start(digit: char, from: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            id: id(digit),
            before: None,
            from,
            stream: Vec::new(),
            is_broken: false,
            at_psync: None,
            acknowledged: Vec::new(),
            answers: Vec::new(),
            generation: 0,
            followers: 0,
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                // A connection ends in whatever way the other side likes.
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Writes commands; returns the offset behind them.
    pub(crate) fn write(&self, name: &str, count: usize) -> u64 {
        let mut state = self.lock();
        for number in 0..count {
            state.write(&["SET", &format!("{name}:{number}"), "value"]);
        }
        state.offset()
    }
}

/// A replication ID.
pub(crate) fn id(digit: char) -> String {
    digit.to_string().repeat(40)
}

/// An RDB without a key.
fn empty_rdb() -> Vec<u8> {
    let mut bytes = b"REDIS0011\xff".to_vec();
    let crc = wirevault::engines::redis::wire::rdb::Crc64::of(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn serve(stream: TcpStream, state: &Arc<Mutex<State>>) -> std::io::Result<()> {
    let generation = state.lock().unwrap().generation;
    let mut answers = stream.try_clone()?;
    let mut commands = BufReader::new(stream);
    loop {
        let command = read_command(&mut commands)?;
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["INFO", ..] => {
                let info = state.lock().unwrap().info();
                answers.write_all(format!("${}\r\n{info}\r\n", info.len()).as_bytes())?;
            }
            ["ACL" | "CONFIG" | "MODULE", ..] => answers.write_all(b"*0\r\n")?,
            ["PSYNC", "?", _] => {
                let line = state.lock().unwrap().synchronize("?", "-1").0;
                let rdb = empty_rdb();
                answers.write_all(format!("{line}\r\n${}\r\n", rdb.len()).as_bytes())?;
                answers.write_all(&rdb)?;
            }
            ["PSYNC", id, next] => return follow(&mut answers, commands, state, (id, next, generation)),
            _ => answers.write_all(b"+OK\r\n")?,
        }
    }
}

/// Sends the stream, and takes what is acknowledged.
fn follow(
    answers: &mut TcpStream,
    commands: BufReader<TcpStream>,
    state: &Arc<Mutex<State>>,
    (id, next, generation): (&str, &str, u64),
) -> std::io::Result<()> {
    let (number, line, mut at, is_broken) = {
        let mut state = state.lock().unwrap();
        if let Some(turn) = state.at_psync.take() {
            turn(&mut state);
        }
        if state.is_broken {
            state.write(&["SET", "lost", "value"]);
        }
        let (line, at) = state.synchronize(id, next);
        state.answers.push(line.clone());
        state.followers += 1;
        (state.followers, line, at, state.is_broken)
    };
    answers.write_all(format!("{line}\r\n").as_bytes())?;
    if line.starts_with("+FULLRESYNC") {
        let rdb = empty_rdb();
        answers.write_all(format!("${}\r\n", rdb.len()).as_bytes())?;
        answers.write_all(&rdb)?;
    }
    let (shared, mut commands) = (state.clone(), commands);
    if is_broken {
        // Once it is taken.
        read_command(&mut commands)?;
        return answers.shutdown(std::net::Shutdown::Both);
    }
    std::thread::spawn(move || {
        while let Ok(command) = read_command(&mut commands) {
            if let [_, _, offset] = command.as_slice() {
                let offset = offset.parse().unwrap_or(0);
                shared.lock().unwrap().acknowledged.push((number, offset));
            }
        }
    });
    loop {
        let (more, is_old) = {
            let state = state.lock().unwrap();
            let sent = (at.saturating_sub(state.from) as usize).min(state.stream.len());
            (state.stream[sent..].to_vec(), state.generation != generation)
        };
        if is_old {
            return answers.shutdown(std::net::Shutdown::Both);
        }
        answers.write_all(&more)?;
        at += more.len() as u64;
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read_command(from: &mut BufReader<TcpStream>) -> std::io::Result<Vec<String>> {
    let number = |from: &mut BufReader<TcpStream>| -> std::io::Result<usize> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let digits = line.trim_end().get(1..).and_then(|digits| digits.parse().ok());
        digits.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    };
    let count = number(from)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut bytes = vec![0; number(from)? + 2];
        from.read_exact(&mut bytes)?;
        bytes.truncate(bytes.len() - 2);
        words.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(words)
}
