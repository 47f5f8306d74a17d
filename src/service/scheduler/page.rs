//! The status page: one HTML document out of the state, without scripts and without anything fetched from elsewhere.
//!
//! Plots are inline SVG whose points carry titles; wide things scroll in their own box, so that it reads on a phone. Every
//! text that comes from outside (names, errors, reasons) is escaped.

mod logs;
mod plot;
mod sources;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::TaskKind;
use super::state::{SchedulerState, SnapshotLine, State, TaskState};
use crate::base::units::format_bytes;
use crate::policy::health::{Claim, Level, State as Verdict, Verification};
use crate::policy::retention::decide;
use crate::repository::{RunOutcome, RunRecord};

/// Days of the calendar.
const DAYS: i32 = 91;

/// Snapshots that the preview of the keep rules names for each job.
const PREVIEWED: usize = 200;

/// Lines of evidence.
const EVIDENCE: usize = 30;

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1b1f24;--dim:#667;--line:#dde1e6;--good:#1a7f4b;--bad:#c2352b;--warn:#b7791f;--none:#e6e9ed;--plot:#2f6fb3}\
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1c2026;--text:#e6e8eb;--dim:#98a1ab;--line:#2f353d;--good:#45b97c;--bad:#ef6b61;--warn:#d9a441;--none:#2a3037;--plot:#6fa8e0}}\
*{box-sizing:border-box}body{margin:0;padding:1rem;background:var(--bg);color:var(--text);font:15px/1.45 system-ui,sans-serif}\
main{max-width:76rem;margin:auto}h1{font-size:1.3rem;margin:.2rem 0}h2{font-size:1.05rem;margin:0 0 .6rem}h3{font-size:.95rem;margin:.8rem 0 .2rem}\
section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.9rem;margin:.9rem 0}\
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}\
td.text{white-space:normal;min-width:14rem}th{color:var(--dim);font-weight:600;font-size:.85rem}tr:last-child td{border-bottom:0}.number{text-align:right;font-variant-numeric:tabular-nums}\
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}.dim{color:var(--dim)}.state{font-weight:600}\
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(20rem,100%),1fr));gap:.9rem}svg{display:block;max-width:100%}svg text{fill:var(--dim);font:11px system-ui,sans-serif}\
.jobs td{white-space:normal}.jobs th,.jobs td{padding-right:.6rem}.jobs td span,.jobs .number{white-space:nowrap}.calendars{display:grid;grid-template-columns:repeat(auto-fill,minmax(14rem,1fr));gap:.3rem .9rem}.calendar svg{max-width:none}.fill-good{fill:var(--good)}.fill-warn{fill:var(--warn)}.fill-none{fill:var(--none)}.curve{fill:none;stroke:var(--plot);stroke-width:1.5}.dot{fill:var(--plot)}.grid{stroke:var(--line)}\
summary{cursor:pointer}code{font-size:.85rem}.said td{white-space:normal;border-bottom:1px solid var(--line);padding-top:0;overflow-wrap:anywhere}.more td{border-bottom:0}\
@media(max-width:48rem){body{padding:.5rem}.jobs th{display:none}.jobs tr{display:block;padding:.35rem 0;border-bottom:1px solid var(--line)}.jobs tr.more{border-bottom:0;padding-bottom:0}\
.jobs td,.jobs td.number{display:flex;justify-content:space-between;gap:1rem;border:0;padding:.08rem 0;text-align:right;white-space:normal}.jobs td:empty{display:none}.jobs td::before{content:attr(data-is);color:var(--dim);text-align:left}.jobs .said td,.jobs td:first-child{display:block;text-align:left;border:0}}";

/// Renders the page.
pub(super) fn render(state: &SchedulerState, now: Timestamp) -> String {
    let (verdict, complaints) = state.verdict(now);
    let state = state.lock();
    let zone = state.zone();
    let mut html = head(&state, verdict, &complaints, now, &zone);
    html.push_str(&tasks(&state, now, &zone));
    html.push_str(&sources::table(&state, now, &zone));
    html.push_str(&logs::table(&state));
    html.push_str(&calendar(&state, now, &zone));
    html.push_str(&plots(&state, &zone));
    html.push_str(&retention(&state, now, &zone));
    html.push_str(&evidence(&state, now, &zone));
    html.push_str("</main></body></html>\n");
    html
}

/// Makes text harmless in HTML.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A time as people read it, in the zone of the schedules.
pub(super) fn local(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// `3 h ago`, `in 2 d`: one unit is enough to see whether something is wrong.
fn distance(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs();
    let span = short(SignedDuration::from_secs(seconds.abs()));
    if seconds < 0 {
        format!("in {span}")
    } else {
        format!("{span} ago")
    }
}

fn short(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn head(state: &State, verdict: Verdict, complaints: &[String], now: Timestamp, zone: &TimeZone) -> String {
    let words = verdict.verdict();
    let verdict = if verdict.is_ok() {
        format!("<p class=\"state good\">{words}</p>")
    } else {
        let items: Vec<String> = complaints
            .iter()
            .map(|text| format!("<li>{}</li>", escape(text)))
            .collect();
        let items = items.concat();
        format!("<div class=\"state bad\">{words}<ul>{items}</ul></div>")
    };
    let seen = state
        .surveyed
        .map_or_else(|| "not yet".to_owned(), |time| distance(time, now));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>wirevault on {host}</title><style>{STYLE}</style></head><body><main><h1>wirevault on {host}</h1>\
         <p class=\"dim\">{time} {zone} · version {version} · repositories checked {seen}</p>{verdict}",
        host = escape(&state.host),
        time = local(now, zone),
        zone = escape(zone.iana_name().unwrap_or("UTC")),
        version = env!("CARGO_PKG_VERSION"),
    )
}

fn tasks(state: &State, now: Timestamp, zone: &TimeZone) -> String {
    let mut rows: Vec<(&String, &TaskState)> = state.tasks.iter().collect();
    rows.sort_by_key(|(name, task)| (task.what != TaskKind::Backup, task.what.word(), (*name).clone()));
    let rows: String = rows
        .iter()
        .map(|(name, task)| task_row(state, name, task, now, zone))
        .collect();
    format!(
        "<section><h2>Jobs, drills, rules</h2><div class=\"wide\"><table \
         class=\"jobs\"><tr><th>name</th><th>what</th><th>state</th><th>last complete</th>\
         <th>next</th><th class=\"number\">snapshots</th><th class=\"number\">newest</th><th class=\"number\">all</th><th class=\"number\">missed</th></tr>{rows}</table></div></section>"
    )
}

fn task_row(state: &State, name: &str, task: &TaskState, now: Timestamp, zone: &TimeZone) -> String {
    let snapshots = || {
        state
            .snapshots
            .iter()
            .filter(|line| task.what == TaskKind::Backup && line.facts.job == name)
    };
    let (status, class) = match (&task.running_since, task.last()) {
        (Some(since), _) => (format!("running for {}", short(now.duration_since(*since))), "warn"),
        (None, None) => ("no run yet".to_owned(), "dim"),
        (None, Some(last)) => ended(last, now),
    };
    let time = |time: Timestamp| {
        let (at, dim) = (local(time, zone), distance(time, now));
        format!("<span>{at}</span> <span class=\"dim\">{dim}</span>")
    };
    let absent = |word: &str| format!("<span class=\"dim\">{word}</span>");
    let last_well = task.last_success.map_or_else(|| absent("never"), time);
    let next = match (task.next, task.what) {
        // It has no times of its own: it follows a run that left a repository behind.
        (None, TaskKind::Copy) => absent("when needed"),
        (None, _) => absent("never"),
        (Some(next), _) => time(next),
    };
    let newest = snapshots()
        .next_back()
        .map_or_else(String::new, |line| format_bytes(line.stored_bytes));
    let all = format_bytes(snapshots().map(|line| line.stored_bytes).sum());
    let (count, all) = match task.what {
        TaskKind::Backup => (snapshots().count().to_string(), all),
        TaskKind::Copy | TaskKind::Drill | TaskKind::Cleanup => (String::new(), String::new()),
    };
    let said = task.last().and_then(|last| last.error.as_deref()).unwrap_or_default();
    let (more, said) = match said {
        "" => ("", String::new()),
        said => {
            let said = escape(said);
            (
                "more",
                format!("<tr class=\"said\"><td colspan=\"9\" class=\"{class}\">{said}</td></tr>"),
            )
        }
    };
    format!(
        "<tr class=\"{more}\"><td><b>{}</b></td><td data-is=\"what\">{}</td><td data-is=\"state\" class=\"state {class}\"><span>{}</span></td>\
         <td data-is=\"last complete\"><div>{last_well}</div></td><td data-is=\"next\"><div>{next}</div></td><td \
         data-is=\"snapshots\" class=\"number\">{count}</td>\
         <td data-is=\"newest\" class=\"number\">{newest}</td><td data-is=\"all\" class=\"number\">{all}</td>\
         <td data-is=\"missed\" class=\"number\">{}</td></tr>{said}",
        escape(name),
        task.what.word(),
        escape(&status),
        if task.missed > 0 {
            task.missed.to_string()
        } else {
            String::new()
        },
    )
}

fn ended(last: &RunRecord, now: Timestamp) -> (String, &'static str) {
    let (word, class) = match last.outcome {
        RunOutcome::Done => ("done", "good"),
        RunOutcome::Partial => ("incomplete", "warn"),
        RunOutcome::Failed => ("failed", "bad"),
    };
    (
        format!("{word}, {:.1} s, {}", last.seconds(), distance(last.ended, now)),
        class,
    )
}

/// Snapshots by job and host, in the order of the map; each list oldest first.
fn groups(state: &State) -> BTreeMap<(String, String), Vec<&SnapshotLine>> {
    let mut groups: BTreeMap<(String, String), Vec<&SnapshotLine>> = BTreeMap::new();
    for line in &state.snapshots {
        let host = if line.facts.host == state.host {
            ""
        } else {
            &line.facts.host
        };
        let place = if state
            .policies
            .keys()
            .any(|(_, repository)| *repository != line.repository)
        {
            format!("{host} in {}", line.repository)
        } else {
            host.to_owned()
        };
        groups
            .entry((line.facts.job.clone(), place.trim().to_owned()))
            .or_default()
            .push(line);
    }
    groups
}

fn title(job: &str, place: &str) -> String {
    if place.is_empty() {
        escape(job)
    } else {
        format!("{} <span class=\"dim\">{}</span>", escape(job), escape(place))
    }
}

fn calendar(state: &State, now: Timestamp, zone: &TimeZone) -> String {
    let today = now.to_zoned(zone.clone()).date();
    let mut rows = String::new();
    for ((job, place), lines) in groups(state) {
        let mut days: BTreeMap<i32, (u32, u32)> = BTreeMap::new();
        for line in lines {
            let date = line.facts.started.to_zoned(zone.clone()).date();
            let age = today
                .since((jiff::Unit::Day, date))
                .map_or(i32::MAX, |span| span.get_days());
            let day = days.entry(age).or_default();
            day.0 += u32::from(line.facts.is_complete());
            day.1 += u32::from(!line.facts.is_complete());
        }
        let cells = plot::days(DAYS, today, &days);
        rows.push_str(&format!(
            "<div><h3>{}</h3><div class=\"wide calendar\">{cells}</div></div>",
            title(&job, &place)
        ));
    }
    if rows.is_empty() {
        rows.push_str("<p class=\"dim\">No snapshot yet.</p>");
    }
    format!(
        "<section><h2>Snapshots of the last {DAYS} days</h2><p class=\"dim\"><span class=\"good\">■</span> complete \
         <span class=\"warn\">■</span> a source failed <span class=\"dim\">□</span> none kept</p><div class=\"calendars\">{rows}</div></section>"
    )
}

fn plots(state: &State, zone: &TimeZone) -> String {
    let mut boxes = String::new();
    for ((job, place), lines) in groups(state) {
        let sizes: Vec<(Timestamp, f64)> = lines
            .iter()
            .map(|l| (l.facts.started, plot::double(l.stored_bytes)))
            .collect();
        let times: Vec<(Timestamp, f64)> = lines
            .iter()
            .map(|l| {
                (
                    l.facts.started,
                    l.finished.duration_since(l.facts.started).as_secs_f64(),
                )
            })
            .collect();
        let name = title(&job, &place);
        boxes.push_str(&format!(
            "<div><h3>{name}: stored</h3>{}</div>",
            plot::curve(&sizes, zone, &plot::bytes)
        ));
        boxes.push_str(&format!(
            "<div><h3>{name}: duration</h3>{}</div>",
            plot::curve(&times, zone, &|s| format!("{s:.1} s"))
        ));
    }
    if boxes.is_empty() {
        return String::new();
    }
    format!("<section><h2>Sizes and durations</h2><div class=\"plots\">{boxes}</div></section>")
}

fn retention(state: &State, now: Timestamp, zone: &TimeZone) -> String {
    let mut parts = String::new();
    let repositories: std::collections::BTreeSet<&String> =
        state.snapshots.iter().map(|line| &line.repository).collect();
    for repository in repositories {
        let here = state.snapshots.iter().filter(|line| line.repository == *repository);
        let facts: Vec<_> = here.map(|line| line.facts.clone()).collect();
        let policy = |_: &str, job: &str| state.policies.get(&(job.to_owned(), repository.clone())).copied();
        let plan = decide(&facts, policy, now, zone);
        let mut jobs: BTreeMap<(&str, &str), Vec<_>> = BTreeMap::new();
        for decision in &plan.decisions {
            jobs.entry((&decision.snapshot.job, &decision.snapshot.host))
                .or_default()
                .push(decision);
        }
        for ((job, host), decisions) in jobs {
            let goes = decisions.iter().filter(|decision| !decision.keeps()).count();
            let rows: Vec<String> = decisions
                .iter()
                .rev()
                .take(PREVIEWED)
                .map(|decision| {
                    let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
                    let why = if decision.keeps() {
                        escape(&reasons.join(", "))
                    } else {
                        "<span class=\"warn\">removed by the next prune</span>".to_owned()
                    };
                    let time = local(decision.snapshot.started, zone);
                    format!(
                        "<tr><td><code>{}</code></td><td>{time}</td><td class=\"text\">{why}</td></tr>",
                        decision.snapshot.id
                    )
                })
                .collect();
            parts.push_str(&format!(
                "<details><summary><b>{}</b> <span class=\"dim\">{} in {}</span>: {} kept, {goes} to be \
                 removed</summary><div class=\"wide\"><table>\
                 <tr><th>snapshot</th><th>begun</th><th>kept as</th></tr>{}</table></div></details>",
                escape(job),
                escape(host),
                escape(repository),
                decisions.len() - goes,
                rows.concat(),
            ));
        }
    }
    if parts.is_empty() {
        return String::new();
    }
    format!("<section><h2>Retention now</h2>{parts}</section>")
}

fn evidence(state: &State, now: Timestamp, zone: &TimeZone) -> String {
    let list = |lines: &[String]| lines.iter().map(|line| escape(line)).collect::<Vec<_>>();
    let rows: Vec<String> = state
        .evidence
        .iter()
        .take(EVIDENCE)
        .map(|one| {
            let proved = &one.proved;
            let found = [&proved.damage, &proved.refused, &proved.integrity, &proved.skipped];
            let found = found.map(|lines| list(lines)).concat().join("<br>");
            let (word, class) = match Verification::of_document(proved) {
                Some(Verification::Proven) => (Claim::Proven.words(), "good"),
                Some(came) => (came.words(), "bad"),
                None => ("not understood", "bad"),
            };
            format!(
                "<tr><td>{} <span class=\"dim\">{}</span></td><td><code>{}</code></td><td>{}</td><td class=\"state {class}\">{word}</td>\
                 <td>{}</td><td>{}</td><td class=\"text\">{found}</td></tr>",
                local(one.time, zone),
                distance(one.time, now),
                one.snapshot,
                proved.level.map_or("", Level::word),
                list(&proved.sources).join(", "),
                escape(proved.drill.as_deref().unwrap_or_default()),
            )
        })
        .collect();
    let body = if rows.is_empty() {
        "<p class=\"warn\">Nothing has been verified yet. Add a [drill.NAME], or run wirevault verify.</p>".to_owned()
    } else {
        format!(
            "<div class=\"wide\"><table><tr><th>when</th><th>snapshot</th><th>level</th><th>result</th><th>sources</th><th>drill</th><th>found</th></tr>\
             {}</table></div>",
            rows.concat()
        )
    };
    format!("<section><h2>What was proven</h2>{body}</section>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let state = super::super::state::tests::state();
        let now = Timestamp::UNIX_EPOCH;
        state.lock().task("full", TaskKind::Backup);
        let mut record =
            super::super::state::tests::record(RunOutcome::Failed, Some("<script>alert('x')</script>"), now);
        record.host = "<host>".into();
        state.lock().host = "<host>".into();
        state.keep(record, now);
        let page = render(&state, now);
        assert!(
            page.contains("&lt;script&gt;alert(&#39;x&#39;)") && page.contains("on &lt;host&gt;"),
            "{page}"
        );
        assert!(
            !page.contains("<script") && !page.contains("http://") && !page.contains("https://"),
            "{page}"
        );
        assert!(page.contains("Nothing has been verified yet"));
    }

    #[test]
    fn a_distance_has_one_unit() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap_or_default();
        assert_eq!(distance(at(0), at(100)), "100 s ago");
        assert_eq!(distance(at(8000), at(0)), "in 2 h");
        assert_eq!(distance(at(0), at(30 * 86_400)), "30 d ago");
    }
}
