//! An engine that only this test has: registered, and then every verb takes its sources like any other's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use wirevault::archive::{ArchiveReader, EntryMeta, Pipeline, StoredSource};
use wirevault::base::memory::MemoryPlan;
use wirevault::base::report::silent;
use wirevault::config::Config;
use wirevault::engines::{
    BackupContext, Engine, EngineFlags, EngineKind, Finding, FindingLevel, Flags, Named, PlanWord, Registry,
    RestoreProof, RestoreReport, RestoreRequest, Restorer, ScratchReport, Source, SourceOutcome, SourceSpec, Spec,
    Stored, TargetPlan,
};
use wirevault::operations::local::LocalState;
use wirevault::operations::options::{self, Level};
use wirevault::operations::session::Seen;
use wirevault::operations::{Report, Session, Status};
use wirevault::{Error, ErrorKind, Result, operations};

const KIND: EngineKind = EngineKind::new("toy", "toys");

/// The longest toy, in bytes.
const MOST: usize = 1 << 10;

/// What a content proof refuses.
const BROKEN: &str = "broken";

/// The engine: a toy is a short text in a file.
#[derive(Debug)]
struct ToyEngine;

/// A toy.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct Toy {
    path: PathBuf,
    /// Whether a backup writes it in capitals.
    loud: bool,
}

/// Flags of `backup` for toys.
#[derive(Debug, Clone, Default)]
struct ToyFlags {
    loud: bool,
}

impl Flags for ToyFlags {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn is_given(&self) -> bool {
        self.loud
    }
}

#[async_trait]
impl SourceSpec for Toy {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&self) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.clone()))
    }

    fn take_flags(&mut self, flags: &EngineFlags) -> Result<()> {
        self.loud |= flags.of::<ToyFlags>().loud;
        Ok(())
    }
}

#[async_trait]
impl Source for Toy {
    fn location(&self) -> String {
        self.place()
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        Ok(vec![Finding {
            level: FindingLevel::Info,
            message: format!("{} bytes of toy", std::fs::read(&self.path)?.len()),
            hint: None,
        }])
    }

    async fn backup(&self, context: BackupContext) -> Result<SourceOutcome> {
        let text = std::fs::read_to_string(&self.path)?;
        let text = if self.loud { text.to_uppercase() } else { text };
        let size = u64::try_from(text.len()).unwrap();
        let mut buffer = context.writer.chunk_buffer().await?;
        buffer.extend(text.as_bytes());
        let meta = EntryMeta::file("toy.txt", size, (0, 0));
        context.writer.submit_entry(meta, buffer).await?;
        Ok(SourceOutcome {
            versions: [("toy".to_owned(), "1".to_owned())].into(),
            position: BTreeMap::default(),
            consistent_at: jiff::Timestamp::now(),
            raw_bytes: size,
            items: 1,
            note_counts: BTreeMap::default(),
            archives: context.writer.finish().await?,
        })
    }
}

#[async_trait(?Send)]
impl Engine for ToyEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["toy"]
    }

    fn read_url(&self, text: &str) -> Option<Result<Named>> {
        let path = PathBuf::from(text.strip_prefix("toy:")?);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let spec = Box::new(Toy { path, loud: false });
        Some(Ok(Named { name, spec }))
    }

    fn read_plan(&self, plan: &StoredSource, _: PlanWord) -> Option<Spec> {
        let path = PathBuf::from(plan.text("path")?);
        Some(Box::new(Toy { path, loud: false }))
    }

    fn by_hand(&self) -> &'static str {
        "Read toy.txt."
    }

    fn restorer(&self, request: RestoreRequest) -> Result<Box<dyn Restorer>> {
        let path = match (&request.into, &request.place) {
            (Some(given), _) => given.path().ok_or_else(|| request.cannot_go_into(given))?,
            (None, Some(place)) => place.of_engine::<Toy>(KIND)?.path.clone(),
            (None, None) => return Err(request.has_no_place()),
        };
        let clean = request.options.clean;
        Ok(Box::new(ToyRestorer { path, clean }))
    }

    async fn prove_content(&self, stored: &Stored) -> Result<Option<String>> {
        stored.read_everything().await?;
        if text_of(&stored.reader).await? == BROKEN {
            return Err(Error::corrupt("the toy is broken"));
        }
        Ok(None)
    }

    async fn prove_restored(&self, stored: &Stored, _: Option<Spec>) -> Result<RestoreProof> {
        let letters = text_of(&stored.reader).await?.len();
        Ok(RestoreProof {
            restored: Some(Box::new(Played { letters })),
            ..RestoreProof::default()
        })
    }

    fn describe(&self, source: &str, _: &SourceOutcome) -> String {
        format!("\n{source} is a toy\n")
    }
}

#[derive(Debug)]
struct ToyRestorer {
    path: PathBuf,
    clean: bool,
}

/// What a restore would do, did, or showed.
#[derive(Debug, serde::Serialize)]
struct Played {
    letters: usize,
}

#[async_trait(?Send)]
impl Restorer for ToyRestorer {
    fn target(&self) -> String {
        self.path.display().to_string()
    }

    fn check_target(&self) -> Result<()> {
        if self.path.exists() && !self.clean {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a toy already"));
        }
        Ok(())
    }

    async fn plan(&mut self, reader: &ArchiveReader) -> Result<Option<Box<dyn TargetPlan>>> {
        let letters = text_of(reader).await?.len();
        Ok(Some(Box::new(Played { letters })))
    }

    async fn restore(self: Box<Self>, reader: ArchiveReader) -> Result<Box<dyn RestoreReport>> {
        let text = text_of(&reader).await?;
        std::fs::write(&self.path, &text)?;
        Ok(Box::new(Played { letters: text.len() }))
    }
}

impl TargetPlan for Played {
    fn text(&self) -> String {
        format!("  {} letters to write\n", self.letters)
    }
}

impl RestoreReport for Played {
    fn bytes(&self) -> u64 {
        u64::try_from(self.letters).unwrap()
    }
}

impl ScratchReport for Played {
    fn text(&self) -> String {
        format!("thin air: {} letters", self.letters)
    }
}

async fn text_of(reader: &ArchiveReader) -> Result<String> {
    let bytes = reader.read(b"toy.txt", MOST).await?;
    let bytes = bytes.ok_or_else(|| Error::corrupt("there is no toy"))?;
    String::from_utf8(bytes).map_err(|error| Error::corrupt("the toy is no text").with_cause(error))
}

fn session(root: &Path, engines: Registry) -> Session {
    Session {
        config: Config::default(),
        engines,
        repository: Some(root.join("repository").display().to_string()),
        endpoint: None,
        host: Some("toys".to_owned()),
        limit_rate: None,
        pipeline: Pipeline::start(MemoryPlan::for_limit(96 << 20, 2).unwrap()),
        reporter: silent(),
        clock: std::sync::Arc::new(wirevault::base::clock::SystemClock),
        cancel: CancellationToken::new(),
        spool_dir: root.to_owned(),
        seen: Seen::default(),
        state: LocalState::find(&|name| {
            (name == "WIREVAULT_STATE_DIR").then(|| root.join("state").display().to_string())
        }),
        ask: None,
        arguments: Vec::new(),
    }
}

fn backup(toy: &Path, loud: bool) -> options::Backup {
    options::Backup {
        targets: vec![format!("toy:{}", toy.display())],
        engines: EngineFlags::default().with(ToyFlags { loud }),
        ..options::Backup::default()
    }
}

fn restore(into: Option<&Path>) -> options::Restore {
    options::Restore {
        snapshot: "latest".to_owned(),
        into: into.map(|path| path.display().to_string()),
        parallel: 1,
        ..options::Restore::default()
    }
}

fn verify(level: Level) -> options::Verify {
    options::Verify {
        snapshots: vec!["latest".to_owned()],
        level,
        ..options::Verify::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_takes_the_sources_of_an_engine_that_only_this_test_knows() {
    let root = tempfile::tempdir().unwrap();
    let toy = root.path().join("bear.txt");
    std::fs::write(&toy, "brown bear").unwrap();
    let session = session(root.path(), Registry::standard().with(ToyEngine));

    let targets = backup(&toy, false).targets;
    let checked = operations::check::run(&session, &options::Check { targets })
        .await
        .unwrap();
    assert!(
        checked.ok && checked.text().contains("10 bytes of toy"),
        "{}",
        checked.text()
    );

    let done = operations::backup::run(&session, &backup(&toy, true)).await.unwrap();
    assert_eq!(done.status(), Status::Done, "{}", done.text());
    assert!(done.text().contains("bear is a toy"), "{}", done.text());
    let manifest = &done.document()["snapshots"][0];
    assert_eq!(manifest["sources"][0]["kind"], "toy");
    assert_eq!(
        manifest["plan"]["sources"][0],
        json!({ "name": "bear", "kind": "toy", "path": toy, "loud": true })
    );
    let listed = operations::list::run(&session, &options::List::default())
        .await
        .unwrap();
    assert_eq!(listed.document()["snapshots"][0]["sources"][0]["kind"], "toy");

    for level in [Level::Stored, Level::Content, Level::Restored] {
        let verified = operations::verify::run(&session, &verify(level)).await.unwrap();
        assert_eq!(verified.status(), Status::Done, "{}", verified.text());
        if level == Level::Restored {
            let restored = &verified.document()["verified"][0]["restored"];
            assert_eq!(*restored, json!([{ "source": "bear", "letters": 10 }]));
            assert!(verified.text().contains("restored into thin air: 10 letters"));
        }
    }

    // Back to its place, which this host remembers; there is a toy.
    let refused = operations::restore::run(&session, &restore(None)).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    std::fs::remove_file(&toy).unwrap();
    let dry = options::Restore {
        dry_run: true,
        ..restore(None)
    };
    let planned = operations::restore::run(&session, &dry).await.unwrap();
    let one = &planned.document()["would_restore"][0];
    assert_eq!((&one["toy"], &one["plan"]), (&json!({ "letters": 10 }), &json!(null)));
    assert!(planned.text().contains("10 letters to write") && !toy.exists());
    let restored = operations::restore::run(&session, &restore(None)).await.unwrap();
    assert_eq!(restored.document()["restored"][0]["into"], json!(toy));
    assert_eq!(std::fs::read_to_string(&toy).unwrap(), "BROWN BEAR");
    let beside = root.path().join("beside.txt");
    operations::restore::run(&session, &restore(Some(&beside)))
        .await
        .unwrap();
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "BROWN BEAR");

    let undo = options::Restore {
        undo: true,
        ..restore(None)
    };
    let refused = operations::restore::run(&session, &undo).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_of_the_engine_is_refused_and_so_is_the_engine_where_it_is_not_known() {
    let root = tempfile::tempdir().unwrap();
    let toy = root.path().join("bear.txt");
    std::fs::write(&toy, BROKEN).unwrap();
    let with = session(root.path(), Registry::standard().with(ToyEngine));
    operations::backup::run(&with, &backup(&toy, false)).await.unwrap();
    std::fs::remove_file(&toy).unwrap();

    let damaged = operations::verify::run(&with, &verify(Level::Content)).await.unwrap();
    assert_eq!(damaged.status(), Status::Failed);
    assert!(damaged.text().contains("the toy is broken"), "{}", damaged.text());

    let foreign = options::Restore {
        engines: EngineFlags::default().with(options::RestoreRedis {
            users: true,
            ..options::RestoreRedis::default()
        }),
        ..restore(None)
    };
    let refused = operations::restore::run(&with, &foreign).await.err().unwrap();
    assert!(
        refused
            .chain()
            .contains("flags for Redis were given, but source \"bear\" is of kind toy")
    );
    let paths = options::Restore {
        path: vec!["*".to_owned()],
        ..restore(None)
    };
    let refused = operations::restore::run(&with, &paths).await.err().unwrap();
    assert!(refused.chain().contains("--path selects files"), "{}", refused.chain());
    let server = options::Restore {
        into: Some("redis://cache".to_owned()),
        ..restore(None)
    };
    let refused = operations::restore::run(&with, &server).await.err().unwrap();
    assert!(refused.chain().contains("of kind toy cannot go into \"redis://cache\""));
    assert!(!toy.exists(), "nothing was written");

    // A release that does not have the engine lists its sources, and reads what is stored of them.
    let without = session(root.path(), Registry::standard());
    let listed = operations::list::run(&without, &options::List::default())
        .await
        .unwrap();
    assert_eq!(listed.document()["snapshots"][0]["sources"][0]["kind"], "toy");
    let verified = operations::verify::run(&without, &verify(Level::Content))
        .await
        .unwrap();
    assert_eq!(verified.status(), Status::Done, "{}", verified.text());
    let refused = operations::restore::run(&without, &restore(None)).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let error = operations::backup::run(&without, &backup(&toy, false))
        .await
        .err()
        .unwrap();
    assert!(
        error.chain().contains("unknown kind of source \"toy:\""),
        "{}",
        error.chain()
    );
}
