//! The scheduler in the test's own process, by a clock that the test moves: days take no time, and nothing is waited for but
//! what happens.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use wirevault::archive::Pipeline;
use wirevault::base::clock::TestClock;
use wirevault::base::memory::MemoryPlan;
use wirevault::base::report;
use wirevault::config;
use wirevault::operations::local::LocalState;
use wirevault::operations::options;
use wirevault::operations::session::{Seen, Session};
use wirevault::service::scheduler::{Event, Surroundings};

use super::program::Program;
use super::wait::PATIENCE;

/// A scheduler at work.
pub(crate) struct LocalScheduler {
    pub(crate) clock: Arc<TestClock>,
    events: Receiver<Value>,
    cancel: CancellationToken,
    thread: JoinHandle<()>,
    waiting: Runtime,
}

impl LocalScheduler {
    /// Starts it over the program's `wirevault.toml`, whose paths must be whole ones, so long after the present time.
    pub(crate) fn start(program: &Program, later: SignedDuration) -> Self {
        let clock = Arc::new(TestClock::at(Timestamp::now() + later, TimeZone::UTC));
        let (file, state) = (program.path("wirevault.toml"), program.state.path().to_owned());
        let find = |name: &str| (name == "WIREVAULT_STATE_DIR").then(|| state.display().to_string());
        let (cancel, (sender, events)) = (CancellationToken::new(), channel());
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().build().unwrap()
        };
        let serving = runtime();
        let session = Session {
            config: config::read(&file).unwrap(),
            engines: wirevault::engines::Registry::standard(),
            repository: None,
            endpoint: None,
            host: None,
            limit_rate: None,
            pipeline: serving.block_on(async { Pipeline::start(MemoryPlan::for_limit(256 << 20, 2).unwrap()) }),
            reporter: report::silent(),
            clock: clock.clone(),
            cancel: cancel.clone(),
            spool_dir: program.path("spool"),
            seen: Seen::default(),
            state: LocalState::find(&find),
            ask: None,
            arguments: Vec::new(),
        };
        let thread = std::thread::spawn(move || {
            let surroundings = Surroundings {
                reload: &|| config::read(&file),
                tell: &|event: &Event| drop(sender.send(serde_json::to_value(event).unwrap())),
            };
            let options = options::Run {
                listen: Some("127.0.0.1:0".to_owned()),
                ..options::Run::default()
            };
            let run = wirevault::service::scheduler::run(&session, &options, surroundings);
            serving.block_on(run).unwrap();
        });
        Self {
            clock,
            events,
            cancel,
            thread,
            waiting: runtime(),
        }
    }

    /// Waits for the next event of a kind.
    pub(crate) fn event(&self, kind: &str) -> Value {
        loop {
            let event = self.events.recv_timeout(PATIENCE).unwrap();
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// Lets time pass until an event of a kind comes.
    pub(crate) fn event_later(&self, kind: &str) -> Value {
        let begun = Instant::now();
        loop {
            if let Some(event) = self.events.try_iter().find(|event| event["event"] == kind) {
                return event;
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain: {kind}");
            self.clock.advance(self.asleep());
        }
    }

    /// Waits until nothing is to be done, and returns for how long.
    pub(crate) fn asleep(&self) -> Duration {
        let asleep = async { tokio::time::timeout(PATIENCE, self.clock.asleep()).await };
        self.waiting.block_on(asleep).expect("it comes to rest")
    }

    /// Lets time pass, sleep by sleep, as long as nothing begins.
    pub(crate) fn rest(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = self.asleep().min(left);
            self.clock.advance(step);
            left -= step;
        }
        self.asleep();
    }

    /// Ends it, and returns the kinds of the events that nobody asked for.
    pub(crate) fn end(self) -> Vec<String> {
        self.cancel.cancel();
        self.thread.join().unwrap();
        self.events
            .iter()
            .map(|event| event["event"].as_str().unwrap().to_owned())
            .collect()
    }
}
