//! What is told, and how each kind of channel wants to hear it.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use crate::config::{NotifyConfig, NotifyKind, NotifyOn};
use crate::operations::notify::{Call, Delivery, Mail};

/// A text in a message is cut here, in characters: some channels refuse long ones whole.
const MAX_TEXT: usize = 1500;

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Message {
    /// Why it is told.
    #[serde(rename = "event")]
    pub occasion: NotifyOn,
    /// Host of the scheduler.
    pub host: String,
    /// Job or drill.
    pub job: String,
    /// One line.
    pub title: String,
    /// More, for a failure: the error and what can be done about it.
    pub text: String,
    /// When.
    pub time: Timestamp,
}

impl Message {
    /// Makes what is sent to a channel.
    pub fn delivery(&self, channel: &NotifyConfig) -> Delivery {
        if channel.kind != NotifyKind::Email {
            return Delivery::Call(self.call(channel));
        }
        let text = format!(
            "{}\n\nJob \"{}\" on {}, {}.\n",
            cut(&self.text),
            self.job,
            self.host,
            self.time
        );
        Delivery::Mail(Box::new(Mail {
            server: channel.url.clone(),
            password: channel.token.clone(),
            from: channel.from.clone().unwrap_or_default(),
            to: channel.to.clone(),
            subject: self.title.clone(),
            text: text.trim_start().to_owned(),
        }))
    }

    fn call(&self, channel: &NotifyConfig) -> Call {
        let (body, kind) = match channel.kind {
            NotifyKind::Webhook => (json!(self).to_string(), "application/json"),
            NotifyKind::Slack => {
                let text = format!("{} *{}*\n{}", self.sign(), self.title, cut(&self.text));
                (json!({ "text": text.trim_end() }).to_string(), "application/json")
            }
            NotifyKind::Ntfy | NotifyKind::Email => (cut(&self.text), "text/plain; charset=utf-8"),
        };
        let mut call = Call::new(channel.url.clone(), Some(Bytes::from(body)));
        call.headers.push(("content-type", kind.to_owned()));
        if channel.kind == NotifyKind::Ntfy {
            // Header values are ASCII; ntfy reads RFC 2047, but a title in plain words needs none.
            call.headers.push(("title", ascii(&self.title)));
            let (priority, tags) = match self.occasion {
                NotifyOn::Failure => ("high", "rotating_light"),
                NotifyOn::Missed => ("default", "hourglass"),
                NotifyOn::Recovery => ("default", "white_check_mark"),
            };
            call.headers.push(("priority", priority.to_owned()));
            call.headers.push(("tags", tags.to_owned()));
        }
        if let Some(token) = &channel.token {
            call.headers
                .push(("authorization", format!("Bearer {}", token.expose())));
        }
        call
    }

    fn sign(&self) -> &'static str {
        match self.occasion {
            NotifyOn::Failure => ":rotating_light:",
            NotifyOn::Missed => ":hourglass:",
            NotifyOn::Recovery => ":white_check_mark:",
        }
    }
}

fn cut(text: &str) -> String {
    let mut rest = text.chars();
    let shown: String = rest.by_ref().take(MAX_TEXT).collect();
    if rest.next().is_some() {
        format!("{shown}…")
    } else {
        shown
    }
}

fn ascii(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::base::secret::Secret;

    #[test]
    fn each_kind_of_channel_gets_its_own_form() {
        let message = Message {
            occasion: NotifyOn::Failure,
            host: "web1".into(),
            job: "full".into(),
            title: "web1: full failed".into(),
            text: format!("no route to \"db\"\n{}", "ü".repeat(3000)),
            time: Timestamp::UNIX_EPOCH,
        };
        let call = |kind| {
            let channel = NotifyConfig {
                name: "ops".into(),
                kind,
                url: Secret::new("https://hooks/geheim"),
                token: Some(Secret::new("geheim")),
                from: None,
                to: vec![],
                jobs: vec![],
                on: vec![NotifyOn::Failure],
            };
            let call = message.call(&channel);
            assert!(
                call.headers
                    .iter()
                    .any(|h| *h == ("authorization", "Bearer geheim".into()))
            );
            (String::from_utf8(call.body.unwrap().to_vec()).unwrap(), call.headers)
        };
        let json: serde_json::Value = serde_json::from_str(&call(NotifyKind::Webhook).0).unwrap();
        assert_eq!((&json["event"], &json["job"]), (&"failure".into(), &"full".into()));
        let slack: serde_json::Value = serde_json::from_str(&call(NotifyKind::Slack).0).unwrap();
        let text = slack["text"].as_str().unwrap();
        assert!(text.contains("*web1: full failed*") && text.ends_with('…'), "{text}");
        let (text, headers) = call(NotifyKind::Ntfy);
        assert!(text.starts_with("no route") && headers.contains(&("priority", "high".into())));
    }
}
