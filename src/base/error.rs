//! The one error type of this crate: what happened, to which object, and what the reader can do.
//!
//! An [`Error`] has a kind named by its outcome, a message (lowercase, no final stop, values quoted), at most one hint
//! (sentences), and a chained cause. Context is the act that failed: `read manifest`, `upload part 7`. The command
//! line prints the chain once; a library function never prints. Secrets never enter a message.

use std::fmt;

use crate::base::raw_text::printable;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of outcome an error is. It decides whether a retry makes sense and which default hint is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists and may not be replaced.
    AlreadyExists,
    /// Somebody else changed the state we relied on (conditional write, lost lease, swept run).
    PreconditionFailed,
    /// Credentials are missing, wrong or lack a privilege.
    Denied,
    /// Stored or received bytes are not what they must be.
    Corrupt,
    /// A bound on waiting was reached.
    TimedOut,
    /// The peer could not be reached or asked us to come back later.
    Unavailable,
    /// The request itself is wrong: configuration, arguments, URL.
    Invalid,
    /// The object lies in a cold storage class and must be thawed before it can be read.
    Archived,
    /// Understood, but this version or this peer cannot do it.
    Unsupported,
    /// A bound on size, count, memory or disk space would be exceeded.
    LimitExceeded,
    /// The operator or a signal ended the work.
    Cancelled,
    /// Anything else, mostly errors of the operating system.
    Other,
}

impl ErrorKind {
    /// Returns whether the same request may succeed when it is simply repeated.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::TimedOut | Self::Unavailable)
    }
}

/// An error with its kind, message, hint and cause.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: printable(message.into()),
            hint: None,
            cause: None,
        }))
    }

    /// Shorthand for [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Shorthand for [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Attaches the error that caused this one. It is chained, never pasted into the message.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Says what the reader can do. The innermost hint of a chain wins when it is printed.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(printable(hint.into()));
        self
    }

    /// Says what the reader can do, in place of what the causes say: for whoever knows a way around the failure.
    #[must_use]
    pub fn with_hint_instead(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(printable(hint.into()));
        let mut next = self.0.cause.as_mut();
        while let Some(error) = next.and_then(|cause| cause.downcast_mut::<Self>()) {
            error.0.hint = None;
            next = error.0.cause.as_mut();
        }
        self
    }

    /// Wraps this error in the act that failed; the kind is kept.
    #[must_use]
    pub fn context(self, act: impl Into<String>) -> Self {
        let kind = self.kind();
        Self::new(kind, act).with_cause(self)
    }

    /// Returns an error that says the same; the causes become text.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let copy = Self::new(self.kind(), self.chain());
        match self.hint() {
            Some(hint) => copy.with_hint(hint),
            None => copy,
        }
    }

    /// Returns the kind of outcome.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns this error's own message, without causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns whether the same request may succeed when it is repeated.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// Returns the innermost hint in the chain: whoever knew most about the failure.
    pub fn hint(&self) -> Option<&str> {
        let mut found = self.0.hint.as_deref();
        let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(self);
        while let Some(cause) = next {
            if let Some(hint) = cause.downcast_ref::<Self>().and_then(|e| e.0.hint.as_deref()) {
                found = Some(hint);
            }
            next = cause.source();
        }
        found
    }

    /// Returns the whole chain on one line: message, cause, cause of the cause.
    pub fn chain(&self) -> String {
        let mut text = self.0.message.clone();
        let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(self);
        while let Some(cause) = next {
            let part = cause.to_string();
            // Many libraries paste their cause into their own text; it is said once. The number of an error of the operating
            // system says nothing that its text does not say.
            let (raw, part) = (part.as_str(), without_number(&part));
            if !text.ends_with(raw) && !text.ends_with(part) && !text.ends_with(&uncapitalised(part)) {
                text.push_str(": ");
                text.push_str(part);
            }
            next = cause.source();
        }
        text
    }

    /// Returns the chain, followed by the hint if there is one: for lists of errors.
    pub fn chain_and_hint(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{} ({})", self.chain(), hint.trim_end_matches('.')),
            None => self.chain(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind(), self.chain())?;
        if let Some(hint) = self.hint() {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let cause = self.0.cause.as_deref()?;
        Some(cause)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        // One of ours that went through a library's reader or writer.
        let error = match error.downcast::<Self>() {
            Ok(own) => return own,
            Err(error) => error,
        };
        let (kind, message) = match error.kind() {
            Io::NotFound => (ErrorKind::NotFound, "no such file or directory"),
            Io::PermissionDenied => (ErrorKind::Denied, "permission denied"),
            Io::AlreadyExists => (ErrorKind::AlreadyExists, "file exists"),
            Io::TimedOut => (ErrorKind::TimedOut, "timed out"),
            Io::StorageFull | Io::QuotaExceeded => (ErrorKind::LimitExceeded, "no space left"),
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NotConnected
            | Io::BrokenPipe
            | Io::UnexpectedEof => (ErrorKind::Unavailable, "connection failed"),
            _ => (ErrorKind::Other, "operating system error"),
        };
        let message = if error.raw_os_error().is_some() {
            uncapitalised(without_number(&error.to_string()))
        } else {
            message.to_owned()
        };
        Self::new(kind, message).with_cause(error)
    }
}

/// Returns the text of an error of the operating system without its number: `Permission denied (os error 13)`.
fn without_number(text: &str) -> &str {
    let number = |rest: &str| {
        rest.strip_suffix(')')
            .is_some_and(|number| number.parse::<u32>().is_ok())
    };
    match text.rsplit_once(" (os error ") {
        Some((before, rest)) if number(rest) => before,
        _ => text,
    }
}

/// Messages begin with a small letter; what begins with an abbreviation stays as it is.
fn uncapitalised(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), second) if !second.is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Adds the act that failed to a result.
pub trait Context<T> {
    /// Wraps the error, if there is one, in the act that failed.
    fn context(self, act: impl Into<String>) -> Result<T>;
    /// Like [`Context::context`], with the text made only on failure.
    fn with_context<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, act: impl Into<String>) -> Result<T> {
        self.map_err(|e| e.into().context(act))
    }

    fn with_context<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.into().context(act()))
    }
}

/// Turns what is not there ([`ErrorKind::NotFound`]) into `None`.
pub fn if_there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_every_act_and_the_innermost_hint_wins() {
        let error = Error::corrupt("digest differs")
            .with_hint("Run `wirevault verify`.")
            .context("read manifest")
            .with_hint("outer");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(error.chain(), "read manifest: digest differs");
        assert_eq!(error.hint(), Some("Run `wirevault verify`."));
    }

    #[test]
    fn what_the_operating_system_says_is_said_once_and_without_its_number() {
        let said = |number| {
            Error::from(std::io::Error::from_raw_os_error(number))
                .context("open \"x\"")
                .chain()
        };
        assert_eq!(said(2), "open \"x\": no such file or directory");
        assert_eq!(said(16), "open \"x\": device or resource busy");
        assert_eq!(said(111), "open \"x\": connection refused");
        let own = std::io::Error::new(std::io::ErrorKind::NotFound, "no socket");
        assert_eq!(Error::from(own).chain(), "no such file or directory: no socket");
        let pasted = Error::invalid("tls: Broken pipe (os error 32)").with_cause(std::io::Error::from_raw_os_error(32));
        assert_eq!(pasted.chain(), "tls: Broken pipe (os error 32)");
    }
}
