//! Snapshot ids: unique, and sorted by time as text.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::base::error::{Error, Result};
use crate::base::exact;

/// `20260201T020000Z-full-7f3a91c2d4e5b607`: start in UTC to the second, job, and 16 hexadecimal digits that make it unique: 30
/// bits are the nanoseconds of the start, so that runs of one job sort by their start within a second too, the others are random.
/// Releases before this one wrote 64 random bits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct SnapshotId(String);

/// Length of the time at the front: `20260201T020000Z`.
const TIME_LENGTH: usize = 16;

impl SnapshotId {
    /// Makes an id. `random` makes runs of the same second differ.
    pub fn new(started: Timestamp, job: &str, random: u64) -> Self {
        Self(format!(
            "{}-{}-{random:016x}",
            started.strftime("%Y%m%dT%H%M%SZ"),
            sanitised_job(job)
        ))
    }

    /// Makes the id of a run that starts now, or at another moment.
    pub fn unique(started: Timestamp, job: &str) -> Self {
        let nanoseconds = exact::saturating_u64(started.subsec_nanosecond());
        Self::new(started, job, (nanoseconds << 34) | (rand::random::<u64>() >> 30))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the job as it stands in the id: [`sanitised_job`] of its name.
    pub fn job(&self) -> &str {
        let rest = exact::text(&self.0, TIME_LENGTH + 1.., "an id begins with its time");
        rest.rsplit_once('-').map_or("", |(job, _)| job)
    }

    /// Returns when the run started, to the second.
    pub fn started(&self) -> Timestamp {
        parse_time(&self.0).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Job names in ids and keys: lowercase letters, digits, `_` and `-`; anything else becomes `_`.
pub fn sanitised_job(job: &str) -> String {
    let clean = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let name: String = job.chars().take(64).map(clean).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let time = text.get(..TIME_LENGTH)?;
    jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|z| z.timestamp())
}

impl FromStr for SnapshotId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let valid = || {
            parse_time(text)?;
            let rest = text.get(TIME_LENGTH..)?.strip_prefix('-')?;
            let (job, random) = rest.rsplit_once('-')?;
            let hex = random.len() == 16 && random.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            (hex && !job.is_empty() && sanitised_job(job) == job).then_some(())
        };
        valid()
            .map(|()| Self(text.to_owned()))
            .ok_or_else(|| Error::invalid(format!("{text:?} is not a snapshot id")))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for SnapshotId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What a user calls a snapshot: an id, a unique prefix of one, or the latest of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// `latest`, `latest:JOB`, `latest:HOST/JOB`.
    Latest {
        /// Only of this host.
        host: Option<String>,
        /// Only of this job.
        job: Option<String>,
    },
    /// An id or a prefix of one.
    Prefix(String),
}

impl Selector {
    /// Parses what stands on the command line.
    pub fn parse(text: &str) -> Self {
        let Some(rest) = text.strip_prefix("latest") else {
            return Self::Prefix(text.to_owned());
        };
        match rest.strip_prefix(':').map(|name| {
            name.split_once('/')
                .map_or((None, name), |(host, job)| (Some(host), job))
        }) {
            None if rest.is_empty() => Self::Latest { host: None, job: None },
            Some((host, job)) if !job.is_empty() => Self::Latest {
                host: host.map(str::to_owned),
                job: Some(job.to_owned()),
            },
            _ => Self::Prefix(text.to_owned()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_sort_by_time() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let first = SnapshotId::new(at("2026-02-01T02:00:00Z"), "full", 0x7f3a_91c2_d4e5_b607);
        assert_eq!(first.as_str(), "20260201T020000Z-full-7f3a91c2d4e5b607");
        assert_eq!(first.as_str().parse::<SnapshotId>().unwrap(), first);
        assert_eq!(first.started(), at("2026-02-01T02:00:00Z"));
        assert_eq!(first.job(), "full");
        assert_eq!(SnapshotId::new(first.started(), "Pre-Restore", 1).job(), "pre-restore");
        assert!(first < SnapshotId::new(at("2026-02-01T02:00:01Z"), "a", 0));
        for wrong in [
            "",
            "latest",
            "20260201T020000Z-full-7f3a",
            "20260201T020000Z-../x-7f3a91c2d4e5b607",
            "20261301T020000Z-a-7f3a91c2d4e5b607",
        ] {
            assert!(wrong.parse::<SnapshotId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn runs_of_one_second_sort_by_their_start() {
        let at = |nanoseconds: i32| Timestamp::new(1_700_000_000, nanoseconds).unwrap();
        let moments = [0, 1, 17, 999, 1_000_000, 999_999_998, 999_999_999];
        let ids: Vec<_> = moments.map(|moment| SnapshotId::unique(at(moment), "full")).into();
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(SnapshotId::unique(at(5), "full") != SnapshotId::unique(at(5), "full"));
        assert_eq!(ids[6].as_str().parse::<SnapshotId>().unwrap(), ids[6]);
    }

    #[test]
    fn selectors_name_host_and_job() {
        let latest = |host: Option<&str>, job: Option<&str>| Selector::Latest {
            host: host.map(str::to_owned),
            job: job.map(str::to_owned),
        };
        assert_eq!(Selector::parse("latest"), latest(None, None));
        assert_eq!(Selector::parse("latest:full"), latest(None, Some("full")));
        assert_eq!(Selector::parse("latest:web1/full"), latest(Some("web1"), Some("full")));
        assert_eq!(Selector::parse("2026"), Selector::Prefix("2026".to_owned()));
    }
}
