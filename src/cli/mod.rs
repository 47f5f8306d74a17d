//! Flags to options, output, progress, exit codes.

pub mod args;
mod manual;
mod output;
mod progress;
mod runtime;
pub mod table;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::archive::Pipeline;
use crate::cli::args::{Cli, Global, Verb};
use crate::commands::local::LocalState;
use crate::commands::session::Seen;
use crate::commands::several::{self, Absent, each};
use crate::commands::{self, Outcome, Session};
use crate::config::{self, Config, Environment};
use crate::error::Result;
use crate::memory::{DEFAULT_LIMIT_BYTES, MemoryPlan};
use crate::repository::Selector;
use crate::{environment, schedule};

/// Runs the program and returns its exit code: 0 done, 1 failed, 2 finished but some sources failed.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own code for wrong usage is 2, which means "some sources failed" here.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    runtime::start_log(cli.global.verbose, cli.global.quiet);
    match run(&cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            output::print_error(&error, cli.global.json);
            ExitCode::from(1)
        }
    }
}

fn run(cli: &Cli) -> Result<u8> {
    if let Some(text) = manual::text(&cli.verb) {
        std::io::Write::write_all(&mut std::io::stdout(), &text?)?;
        return Ok(0);
    }
    environment::check()?;
    schedule::check_system_zone()?;
    let config = configuration(&cli.global)?;
    let plan = memory_plan(&cli.global, &config)?;
    keep_walks_out(&cli.global, &config);
    let runtime = runtime::runtime()?;
    let report = runtime.block_on(async {
        let cancel = CancellationToken::new();
        runtime::cancel_on_signals(cancel.clone())?;
        let session = Session {
            repository: cli.global.repository.clone(),
            endpoint: cli.global.endpoint.clone(),
            host: host(cli)?,
            limit_rate: cli.global.limit_rate,
            pipeline: Pipeline::start(plan),
            reporter: progress::reporter(cli.global.quiet),
            cancel,
            spool_dir: spool_dir(&cli.global, &config),
            seen: Seen::default(),
            state: LocalState::find(&commands::session::process_environment),
            ask: output::asks(),
            arguments: std::env::args_os()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            config,
        };
        dispatch(&session, cli).await
    });
    // A blocking thread that still waits for a peer must not hold the process.
    runtime.shutdown_background();
    let report = report?;
    output::print_report(report.as_ref(), &cli.global);
    Ok(report.status().exit_code())
}

async fn dispatch(session: &Session, cli: &Cli) -> Outcome {
    match &cli.verb {
        Verb::Init(options) => commands::init::run(session, options).await,
        Verb::Check(options) => commands::check::run(session, options).await,
        Verb::Backup(options) => commands::backup::run(session, options).await,
        Verb::List(options) => {
            each(session, Absent::Fails, async |one| {
                commands::list::run(one, options).await
            })
            .await
        }
        Verb::Show(options) => {
            several::one(session, &options.snapshot, &[], async |one| {
                commands::show::run(one, options).await
            })
            .await
        }
        Verb::Status(options) => commands::status::run(session, options).await,
        Verb::Health(options) => commands::health::run(session, options).await,
        Verb::Verify(options) => {
            // Only what is named by its id may be in another repository.
            let by_id = |name: &String| matches!(Selector::parse(name), Selector::Prefix(_));
            let absent = if !options.all && options.snapshots.iter().all(by_id) {
                Absent::IsElsewhere
            } else {
                Absent::Fails
            };
            each(session, absent, async |one| commands::verify::run(one, options).await).await
        }
        Verb::Restore(options) => {
            several::one(session, &options.snapshot, &options.source, async |one| {
                Box::pin(commands::restore::run(one, options)).await
            })
            .await
        }
        Verb::Recover(options) => {
            let tell = |text: &str| output::print_progress(text, &cli.global);
            several::one(session, &options.snapshot, &[], async |one| {
                Box::pin(commands::recover::run(one, options, &tell)).await
            })
            .await
        }
        Verb::Cat(options) => {
            let sources = std::slice::from_ref(&options.source);
            several::one(session, &options.snapshot, sources, async |one| {
                commands::cat::run(one, options).await
            })
            .await
        }
        Verb::Prune(options) => {
            each(session, Absent::Fails, async |one| {
                commands::prune::run(one, options).await
            })
            .await
        }
        Verb::Copy(options) => Box::pin(commands::copy::run(session, options)).await,
        Verb::Pin(options) => {
            each(session, Absent::IsElsewhere, async |one| {
                commands::pin::pin(one, options).await
            })
            .await
        }
        Verb::Unpin(options) => {
            each(session, Absent::IsElsewhere, async |one| {
                commands::pin::unpin(one, options).await
            })
            .await
        }
        Verb::Cleanup(options) => commands::cleanup::run(session, options).await,
        Verb::Completions(_) | Verb::Man(_) => Err(crate::error::Error::invalid("it needs no session")),
        Verb::Run(options) => {
            let reload = || {
                environment::check()?;
                configuration(&cli.global)
            };
            let tell = |event: &commands::run::Event| output::print_event(event, &cli.global);
            let surroundings = commands::run::Surroundings {
                reload: &reload,
                tell: &tell,
            };
            commands::run::run(session, options, surroundings).await
        }
    }
}

/// The given file, else `wirevault.toml` if it is there, else the environment.
fn configuration(global: &Global) -> Result<Config> {
    if let Some(path) = &global.config {
        return config::read(path);
    }
    let default = Path::new(config::DEFAULT_FILE);
    if default.exists() {
        return config::read(default);
    }
    let config = config::from_environment(&Environment::new(&commands::session::process_environment))?;
    let named = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.into_string().ok()?;
        (!value.is_empty()).then_some(name)
    };
    let names: Vec<String> = std::env::vars_os().filter_map(named).collect();
    config::refuse_unknown_names(names.iter().map(String::as_str), &config)?;
    Ok(config)
}

/// The name of this host that was given. `list` and `status` have a flag of the same name, which chooses among hosts.
fn host(cli: &Cli) -> Result<Option<String>> {
    let chooses = matches!(cli.verb, Verb::List(_) | Verb::Status(_));
    let flag = cli.global.host.clone().filter(|_| !chooses);
    let given = flag.or_else(|| environment::variable("WIREVAULT_HOST"));
    given.as_deref().map(config::checked_host).transpose()
}

fn memory_plan(global: &Global, config: &Config) -> Result<MemoryPlan> {
    let wanted = global
        .memory_limit
        .or(config.memory_limit_bytes)
        .unwrap_or(DEFAULT_LIMIT_BYTES);
    let limit = runtime::cgroup_limit().map_or(wanted, |container| wanted.min(container));
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
        crate::sources::files::own::keep_out(&path);
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
