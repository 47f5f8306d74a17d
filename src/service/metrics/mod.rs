//! Prometheus text of what the scheduler knows: a pure rendering.
//!
//! Form: <https://prometheus.io/docs/instrumenting/exposition_formats/> (text format 0.0.4). Each family is told once, with
//! help and type, then its samples; label values are escaped. What is not known yet (the last success of a job that never
//! ran) has no sample, so that an alert on its age does not read a zero as 1970.

use std::fmt::Write;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Kinds of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A number that only grows while the process lives.
    Counter,
}

/// Text under construction.
#[derive(Debug, Default)]
pub struct Text {
    text: String,
}

impl Text {
    /// Adds a family with its samples: labels and value. One without samples is left out.
    pub fn family<'a>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'a str, String)>, f64)>,
    ) {
        let mut lines = String::new();
        for (labels, value) in samples {
            lines.push_str(name);
            if !labels.is_empty() {
                let labels: Vec<String> = labels
                    .iter()
                    .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
                    .collect();
                let _ = write!(lines, "{{{}}}", labels.join(","));
            }
            let _ = writeln!(lines, " {value}");
        }
        if lines.is_empty() {
            return;
        }
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
    }

    /// Adds a family of one sample.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: Option<f64>) {
        self.family(name, kind, help, value.map(|value| (Vec::new(), value)));
    }

    /// Returns the text.
    pub fn finish(self) -> String {
        self.text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Returns present and highest resident memory of this process, in bytes (proc(5)).
pub fn memory_bytes() -> (Option<f64>, Option<f64>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes * 1024.0)
    };
    (field("VmRSS:"), field("VmHWM:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_help_type_and_escaped_labels() {
        let mut text = Text::default();
        text.family(
            "x_total",
            Kind::Counter,
            "Runs.",
            [(vec![("job", "a\"b\\c\nd".to_owned())], 3.0)],
        );
        text.family("empty", Kind::Gauge, "Nothing.", []);
        text.single("y", Kind::Gauge, "One.", Some(1.5));
        let want = "# HELP x_total Runs.\n# TYPE x_total counter\nx_total{job=\"a\\\"b\\\\c\\nd\"} 3\n\
                    # HELP y One.\n# TYPE y gauge\ny 1.5\n";
        assert_eq!(text.finish(), want);
    }

    #[test]
    fn memory_is_known_on_linux() {
        let (now, peak) = memory_bytes();
        assert!(now.is_some_and(|now| now > 0.0) && peak >= now);
    }
}
