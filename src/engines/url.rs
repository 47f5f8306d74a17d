//! What the URLs of several engines have in common.

use std::path::PathBuf;

use url::Url;

use crate::base::error::{Error, Result};

/// Takes parameters out of a URL, and leaves the others as they are written.
pub(crate) fn without_parameters(url: &mut Url, names: &[&str]) {
    let Some(query) = url.query() else { return };
    let is_one = |pair: &&str| {
        let key = url::form_urlencoded::parse(pair.as_bytes()).next();
        key.is_some_and(|(key, _)| names.contains(&&*key))
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_one(pair)).collect();
    let kept = kept.join("&");
    url.set_query(Some(kept.as_str()).filter(|query| !query.is_empty()));
}

/// Returns the name of a source that is called after something.
pub(crate) fn derived_name(text: &str, default: &str) -> String {
    let right = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            c
        } else {
            '-'
        }
    };
    let name: String = text.chars().map(right).take(64).collect();
    let name = name.trim_start_matches(['.', '-']).trim_end_matches('-');
    if name.is_empty() {
        default.to_owned()
    } else {
        name.to_owned()
    }
}

/// Reads the path of `files:` and `sqlite:`, which may stand behind two slashes.
pub(crate) fn local_path(text: &str, rest: &str) -> Result<PathBuf> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        return Err(
            Error::invalid(format!("\"{text}\" has no path")).with_hint("Write files:/path or sqlite:/path/app.db.")
        );
    }
    Ok(PathBuf::from(path))
}
