//! Flags to options, output, progress, exit codes.

pub mod args;
mod manual;
mod output;
mod progress;
mod runtime;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::archive::Pipeline;
use crate::base::clock::SystemClock;
use crate::base::environment;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::keys::short_size;
use crate::base::memory::{DEFAULT_LIMIT_BYTES, MIB, MINIMUM_LIMIT_BYTES, MemoryPlan};
use crate::cli::args::{Cli, Global, Log, LogVerb, Verb};
use crate::config::{self, Config, Effective, Environment, Origin};
use crate::engines::Registry;
use crate::operations::local::LocalState;
use crate::operations::log::fetch;
use crate::operations::options;
use crate::operations::session::Seen;
use crate::operations::several::{self, Absent, each};
use crate::operations::{self, Outcome, Report, Session};
use crate::policy::schedule;
use crate::repository::Selector;
use crate::service;

/// Runs the program and returns its exit code: 0 done, 1 failed, 2 finished but some sources failed.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            output::print_usage(&error, asked_for_json());
            // clap's own code for wrong usage is 2, which means "some sources failed" here.
            return match (error.use_stderr(), asks_for_log()) {
                (false, _) => ExitCode::SUCCESS,
                (true, false) => ExitCode::from(1),
                (true, true) => ExitCode::from(fetch::STOPS),
            };
        }
    };
    runtime::start_log(cli.global.verbose, cli.global.quiet);
    let json = cli.global.json;
    // A server goes by the exit code of what it runs, whatever went wrong.
    let fetching = fetched_to(&cli.verb);
    match (catch_unwind(AssertUnwindSafe(|| run(cli))), fetching) {
        (Ok(Ok(status)), _) => ExitCode::from(status),
        (Ok(Err(error)), fetching) => {
            output::print_error(&error, json);
            ExitCode::from(fetching.map_or(1, |path| fetch::exit_code(&error, &path)))
        }
        (Err(_), Some(_)) => ExitCode::from(fetch::STOPS),
        (Err(panic), None) => resume_unwind(panic),
    }
}

/// Returns where `log fetch` writes, if that is the verb.
fn fetched_to(verb: &Verb) -> Option<PathBuf> {
    match verb {
        Verb::Log(Log {
            verb: LogVerb::Fetch(flags),
        }) => Some(flags.path.clone()),
        _ => None,
    }
}

/// Whether a command line that could not be read is that of a `restore_command`.
fn asks_for_log() -> bool {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let fetches = |word: &std::ffi::OsString| word == "fetch";
    words.iter().any(|word| word == "log") && words.iter().any(fetches)
}

/// Whether the command line asks for JSON, where it could not be read as a whole.
fn asked_for_json() -> bool {
    std::env::args_os()
        .skip(1)
        .take_while(|word| word != "--")
        .any(|word| word == "--json")
}

fn run(Cli { verb, global }: Cli) -> Result<u8> {
    if let Some(text) = manual::text(&verb) {
        std::io::Write::write_all(&mut std::io::stdout(), &text?)?;
        return Ok(0);
    }
    environment::check()?;
    schedule::check_system_zone()?;
    if let Verb::Config(_) = verb {
        output::print_report(&effective(&verb, &global)?, &global);
        return Ok(0);
    }
    let config = configuration(&global)?;
    let held = config.receivers_hold().filter(|_| matches!(verb, Verb::Run(_)));
    // One receiver stores at a time into each repository.
    let each = held.map_or(0, |held| RECEIVERS_BYTES.saturating_add(held));
    let repositories = exact::u64_from(config.repositories.len().max(1));
    let plan = memory_plan(&global, &config, each.saturating_mul(repositories))?;
    keep_walks_out(&global, &config);
    let runtime = runtime::runtime()?;
    // To a server that recovers, 1 would say that the log ends here.
    let ended = fetched_to(&verb).map_or(1, |_| fetch::ENDED);
    let report = runtime.block_on(async {
        let cancel = CancellationToken::new();
        runtime::cancel_on_signals(cancel.clone(), ended)?;
        let session = Session {
            engines: Registry::standard(),
            repository: global.repository.clone(),
            endpoint: global.endpoint.clone(),
            host: host(&verb, &global)?,
            limit_rate: global.limit_rate,
            pipeline: Pipeline::start(plan),
            reporter: progress::reporter(global.quiet),
            clock: Arc::new(SystemClock),
            cancel,
            spool_dir: spool_dir(&global, &config),
            seen: Seen::default(),
            state: LocalState::find(&operations::session::process_environment),
            ask: output::asks(),
            arguments: std::env::args_os()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            config,
        };
        Box::pin(dispatch(&session, verb, &global)).await
    });
    // A blocking thread that still waits for a peer must not hold the process.
    runtime.shutdown_background();
    let report = report?;
    output::print_report(report.as_ref(), &global);
    Ok(report.status().exit_code())
}

async fn dispatch(session: &Session, verb: Verb, global: &Global) -> Outcome {
    match verb {
        Verb::Init(flags) => boxed(operations::init::run(session, &flags.into()).await),
        Verb::Check(flags) => boxed(operations::check::run(session, &flags.into()).await),
        Verb::Backup(flags) => boxed(operations::backup::run(session, &flags.into()).await),
        Verb::List(flags) => {
            let options = options::List::from(flags);
            let done = each(session, Absent::Fails, async |one| {
                operations::list::run(one, &options).await
            })
            .await;
            boxed(done)
        }
        Verb::Show(flags) => {
            let options = options::Show::from(flags);
            let done = several::one(session, &options.snapshot, &[], async |one| {
                operations::show::run(one, &options).await
            })
            .await;
            boxed(done)
        }
        Verb::Status(flags) => boxed(operations::status::run(session, &flags.into()).await),
        Verb::Health(flags) => boxed(service::health_check::run(session, &flags.into()).await),
        Verb::Verify(flags) => {
            let options = options::Verify::from(flags);
            // Only what is named by its id may be in another repository.
            let by_id = |name: &String| matches!(Selector::parse(name), Selector::Prefix(_));
            let absent = if !options.all && options.snapshots.iter().all(by_id) {
                Absent::IsElsewhere
            } else {
                Absent::Fails
            };
            let done = each(session, absent, async |one| {
                operations::verify::run(one, &options).await
            })
            .await;
            boxed(done)
        }
        Verb::Restore(flags) => {
            let options = options::Restore::from(*flags);
            let has_log = async |one: &Session| operations::log::redis::restore::is_stored_for(one, &options).await;
            let done = several::preferably(session, &options.snapshot, &options.source, has_log, async |one| {
                if operations::log::redis::restore::is_meant(one, &options).await? {
                    return boxed(Box::pin(operations::log::redis::restore::run(one, &options)).await);
                }
                Box::pin(operations::restore::run(one, &options)).await
            })
            .await;
            boxed(done)
        }
        Verb::Recover(flags) => {
            let options = options::Recover::from(*flags);
            let tell = |text: &str| output::print_progress(text, global);
            let done = several::one(session, &options.snapshot, &[], async |one| {
                Box::pin(operations::recover::run(one, &options, &tell)).await
            })
            .await;
            boxed(done)
        }
        Verb::Cat(flags) => {
            let options = options::Cat::from(flags);
            let sources = std::slice::from_ref(&options.source);
            let done = several::one(session, &options.snapshot, sources, async |one| {
                operations::cat::run(one, &options).await
            })
            .await;
            boxed(done)
        }
        Verb::Log(Log { verb }) => match verb {
            LogVerb::Receive(flags) => {
                let options = options::LogReceive::from(flags);
                if operations::log::redis::receive::is_meant(session, &options) {
                    boxed(Box::pin(operations::log::redis::receive::run(session, &options)).await)
                } else {
                    boxed(Box::pin(operations::log::receive::run(session, &options)).await)
                }
            }
            LogVerb::Push(flags) => boxed(operations::log::push::run(session, &flags.into()).await),
            LogVerb::Fetch(flags) => boxed(operations::log::fetch::run(session, &flags.into()).await),
            LogVerb::Show(flags) => show_logs(session, &flags.into()).await,
            LogVerb::Verify(flags) => show_logs(session, &flags.into()).await,
        },
        Verb::Prune(flags) => {
            let options = options::Prune::from(flags);
            let done = each(session, Absent::Fails, async |one| {
                operations::prune::run(one, &options).await
            })
            .await;
            boxed(done)
        }
        Verb::Copy(flags) => boxed(Box::pin(operations::copy::run(session, &flags.into())).await),
        Verb::Pin(flags) => {
            let options = options::Pin::from(flags);
            let done = each(session, Absent::IsElsewhere, async |one| {
                operations::pin::pin(one, &options).await
            })
            .await;
            boxed(done)
        }
        Verb::Unpin(flags) => {
            let options = options::Unpin::from(flags);
            let done = each(session, Absent::IsElsewhere, async |one| {
                operations::pin::unpin(one, &options).await
            })
            .await;
            boxed(done)
        }
        Verb::Cleanup(flags) => boxed(operations::cleanup::run(session, &flags.into()).await),
        Verb::Completions(_) | Verb::Man(_) | Verb::Config(_) => Err(Error::invalid("it needs no session")),
        Verb::Run(flags) => {
            let reload = || {
                environment::check()?;
                configuration(global)
            };
            let tell = |event: &service::scheduler::Event| output::print_event(event, global);
            let surroundings = service::scheduler::Surroundings {
                reload: &reload,
                tell: &tell,
            };
            boxed(service::scheduler::run(session, &flags.into(), surroundings).await)
        }
    }
}

async fn show_logs(session: &Session, options: &options::LogShow) -> Outcome {
    let done = each(session, Absent::Fails, async |one| {
        operations::log::show::run(one, options).await
    })
    .await;
    boxed(done)
}

/// From here on, only what every report can say counts.
fn boxed<R: Report + 'static>(report: Result<R>) -> Outcome {
    report.map(|report| -> Box<dyn Report> { Box::new(report) })
}

/// The configuration file: the given one, else `wirevault.toml` if it is there.
fn configuration_file(global: &Global) -> Option<&Path> {
    let default = Path::new(config::DEFAULT_FILE);
    global.config.as_deref().or_else(|| default.exists().then_some(default))
}

/// What the file says, or without one the environment.
fn configuration(global: &Global) -> Result<Config> {
    if let Some(path) = configuration_file(global) {
        return config::read(path);
    }
    let config = config::from_environment(&Environment::new(&operations::session::process_environment))?;
    let named = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.into_string().ok()?;
        (!value.is_empty()).then_some(name)
    };
    let names: Vec<String> = std::env::vars_os().filter_map(named).collect();
    config::refuse_unknown_names(names.iter().map(String::as_str), &config)?;
    Ok(config)
}

/// The effective configuration, for `config`.
fn effective(verb: &Verb, global: &Global) -> Result<operations::config::ConfigReport> {
    let mut effective = match configuration_file(global) {
        Some(path) => Effective::of_file(path)?,
        None => Effective::of_environment(&configuration(global)?)?,
    };
    if let Some(name) = host(verb, global)? {
        let from = if global.host.is_some() {
            Origin::Flag
        } else {
            Origin::Environment
        };
        effective.set_top("host", name, from);
    }
    if let Some(bytes) = global.memory_limit {
        effective.set_top("memory_limit", short_size(bytes), Origin::Flag);
    }
    if let Some(path) = &global.spool_dir {
        effective.set_top("spool_dir", path.display().to_string(), Origin::Flag);
    }
    Ok(operations::config::ConfigReport(effective))
}

/// The name of this host that was given. `list` and `status` have a flag of the same name, which chooses among hosts.
fn host(verb: &Verb, global: &Global) -> Result<Option<String>> {
    let chooses = matches!(verb, Verb::List(_) | Verb::Status(_));
    let flag = global.host.clone().filter(|_| !chooses);
    let given = flag.or_else(|| environment::variable("WIREVAULT_HOST"));
    given.as_deref().map(config::checked_host).transpose()
}

/// What receivers of logs take beside the jobs, for each repository: two parts of an upload, and their connections.
const RECEIVERS_BYTES: u64 = 24 * MIB;

fn memory_plan(global: &Global, config: &Config, reserved: u64) -> Result<MemoryPlan> {
    let wanted = global
        .memory_limit
        .or(config.memory_limit_bytes)
        .unwrap_or(DEFAULT_LIMIT_BYTES);
    let limit = runtime::cgroup_limit().map_or(wanted, |container| wanted.min(container));
    let least = MINIMUM_LIMIT_BYTES.saturating_add(reserved);
    if reserved > 0 && limit < least {
        let (limit, least) = (limit / MIB, least / MIB);
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("memory limit of {limit} MiB is below the {least} MiB of jobs and logs together"),
        )
        .with_hint("Raise --memory-limit, or receive the logs in a process of their own: wirevault log receive."));
    }
    let limit = limit - reserved.min(limit);
    let parts = config
        .repositories
        .iter()
        .filter_map(|repository| repository.part_size_bytes);
    MemoryPlan::with_parts(limit, runtime::cpus(), parts.max())
}

/// No walk enters a repository, or a spool directory that was named as one.
fn keep_walks_out(global: &Global, config: &Config) {
    let repositories = config.repositories.iter().map(|repository| repository.url.as_str());
    let repositories = repositories.filter_map(crate::storage::open::local_path);
    let spool = global.spool_dir.clone().or_else(|| config.spool_dir.clone());
    for path in repositories.chain(spool) {
        crate::engines::own::keep_out(&path);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "where nothing is configured, this is the spool directory"
)]
fn spool_dir(global: &Global, config: &Config) -> std::path::PathBuf {
    global
        .spool_dir
        .clone()
        .or_else(|| config.spool_dir.clone())
        .unwrap_or_else(std::env::temp_dir)
}
