//! Forward proxies, as the environment names them: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, and `NO_PROXY` for what is reached
//! without one; upper or lower case.
//!
//! One rule for all that speaks HTTP: stores, calls and engines. A proxy is spoken to in plain HTTP; what goes to an `https`
//! address passes it in a tunnel, so that it sees a host and a port and nothing else. The services of a cloud that give an
//! instance its keys are on the link itself, and no proxy reaches them; nor does what is said to `localhost` leave the host.

use std::net::IpAddr;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::base::environment;
use crate::base::error::{Error, ErrorKind, Result};

/// The longest head of an answer to CONNECT, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// How long a proxy may take to open a tunnel.
const TUNNEL: Duration = Duration::from_secs(30);

/// The proxies of an environment.
#[derive(Debug)]
pub struct Proxies {
    http: Option<Named>,
    https: Option<Named>,
    /// Intercepts everything but what `NO_PROXY` names.
    wanted: Matcher,
    /// Whether `NO_PROXY` names everything.
    none_wanted: bool,
}

/// A variable and its value; the value may hold a password.
#[derive(Clone)]
struct Named {
    variable: &'static str,
    value: String,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.variable)
    }
}

/// A proxy on the way to some address.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The variable that names it.
    pub variable: &'static str,
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
}

impl Proxies {
    /// Those of the process.
    pub fn of_process() -> Self {
        Self::of(&environment::variable)
    }

    /// Those of an environment.
    pub fn of(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let named = |names: &[&'static str]| {
            names.iter().find_map(|variable| {
                let value = lookup(variable).map(|value| value.trim().to_owned());
                value
                    .filter(|value| !value.is_empty())
                    .map(|value| Named { variable, value })
            })
        };
        let of = |upper: &'static str, lower: &'static str| named(&[upper, lower, "ALL_PROXY", "all_proxy"]);
        let spared = named(&["NO_PROXY", "no_proxy"]).map(|no| no.value).unwrap_or_default();
        Self {
            http: of("HTTP_PROXY", "http_proxy"),
            https: of("HTTPS_PROXY", "https_proxy"),
            // The matcher's own `*` is for names alone.
            none_wanted: spared.split(',').any(|entry| entry.trim() == "*"),
            wanted: Matcher::builder()
                .all("http://proxy")
                .no(without_ports(&spared))
                .build(),
        }
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// The variable and address of the proxy for a scheme, for a client that finds its way itself.
    pub(crate) fn address(&self, scheme: &str) -> Result<Option<Uri>> {
        let Some(named) = self.named(scheme) else {
            return Ok(None);
        };
        parse(named).map(Some)
    }

    /// Returns the proxy on the way to an address; `None` where it is reached without one.
    pub fn towards(&self, scheme: &str, host: &str) -> Result<Option<Proxy>> {
        let Some(named) = self.named(scheme) else {
            return Ok(None);
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if self.none_wanted || is_of_this_host(bare) || bare.parse().is_ok_and(is_on_the_link) {
            return Ok(None);
        }
        let address = if bare.contains(':') {
            format!("[{bare}]")
        } else {
            bare.to_owned()
        };
        let spared = match format!("{scheme}://{address}/").parse::<Uri>() {
            Ok(uri) => self.wanted.intercept(&uri).is_none(),
            Err(_) => false,
        };
        if spared {
            return Ok(None);
        }
        let uri = parse(named)?;
        let authorization = Matcher::builder().all(uri.to_string()).build();
        let authorization = authorization.intercept(&Uri::from_static("http://any/"));
        Ok(Some(Proxy {
            variable: named.variable,
            host: uri
                .host()
                .unwrap_or_default()
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: uri.port_u16().unwrap_or(80),
            authorization: authorization.and_then(|found| found.basic_auth().cloned()),
        }))
    }

    fn named(&self, scheme: &str) -> Option<&Named> {
        match scheme {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        }
    }
}

/// Reads the address of a proxy. The text may hold a password, so no message has it.
fn parse(named: &Named) -> Result<Uri> {
    let hint = "Write http://host:port; https traffic through the proxy is still encrypted end to end.";
    let text = if named.value.contains("://") {
        named.value.clone()
    } else {
        format!("http://{}", named.value)
    };
    let wrong = |why: &str| Error::invalid(format!("{} {why}", named.variable)).with_hint(hint);
    let scheme = text.split("://").next().unwrap_or_default().to_ascii_lowercase();
    if scheme != "http" {
        return Err(wrong(&format!(
            "names a proxy with scheme {scheme}://, which is not supported"
        )));
    }
    let uri: Uri = text.parse().map_err(|_| wrong("is not the address of a proxy"))?;
    match uri.host() {
        Some(host) if !host.is_empty() => Ok(uri),
        _ => Err(wrong("is not the address of a proxy")),
    }
}

/// Entries of `NO_PROXY` as the matcher reads them: without the ports that some of them have.
fn without_ports(spared: &str) -> String {
    let bare = |entry: &str| {
        let entry = entry.trim();
        let host = match entry.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => entry,
        };
        // What is left of an IPv6 address without its brackets is a part of it.
        let host = if host.contains(':') && !host.ends_with(']') {
            entry
        } else {
            host
        };
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    };
    let entries: Vec<String> = spared.split(',').map(bare).collect();
    entries.join(",")
}

/// Names and addresses of the host itself: a proxy would look for them on its own, and see what is meant for nobody else.
fn is_of_this_host(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let loops = match name.parse() {
        Ok(IpAddr::V4(v4)) => v4.is_loopback(),
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
        Err(_) => false,
    };
    loops || name == "localhost" || name.ends_with(".localhost")
}

/// Addresses that only this host can reach: those of metadata services.
fn is_on_the_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => matches!(v6.segments(), [0xfd00, 0x0ec2, ..]) || v6.is_unicast_link_local(),
    }
}

impl Proxy {
    /// The header that a request to a plain `http` address carries to this proxy.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Connects to the proxy itself.
    pub async fn connect(&self) -> Result<TcpStream> {
        TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable,
                    format!("could not connect to proxy {}:{}", self.host, self.port),
                )
                .with_cause(error)
                .with_hint(format!(
                    "The proxy is set by {}; NO_PROXY lists hosts to reach without it.",
                    self.variable
                ))
            })
    }

    /// Opens a tunnel through the proxy.
    pub async fn tunnel(&self, host: &str, port: u16) -> Result<TcpStream> {
        let opened = tokio::time::timeout(TUNNEL, self.open(host, port)).await;
        opened.unwrap_or_else(|_| {
            let message = format!("proxy {}:{} did not open a tunnel", self.host, self.port);
            Err(Error::new(ErrorKind::TimedOut, message))
        })
    }

    async fn open(&self, host: &str, port: u16) -> Result<TcpStream> {
        let mut stream = self.connect().await?;
        let target = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n").into_bytes();
        if let Some(value) = &self.authorization {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await?;
        // Byte by byte: what follows the head belongs to whoever gets the stream.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(Error::corrupt("the proxy's answer is too long"));
            }
            head.push(stream.read_u8().await?);
        }
        let line = String::from_utf8_lossy(&head);
        let line = line.lines().next().unwrap_or_default();
        let status: u16 = line.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        if (200..300).contains(&status) {
            return Ok(stream);
        }
        let kind = match status {
            401 | 403 | 407 => ErrorKind::Denied,
            _ => ErrorKind::Unavailable,
        };
        Err(Error::new(
            kind,
            format!(
                "proxy {}:{} returned status {status} for {target}",
                self.host, self.port
            ),
        )
        .with_hint(format!(
            "The proxy is set by {}; NO_PROXY lists hosts to reach without it.",
            self.variable
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Proxies {
        Proxies::of(&|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_scheme_chooses_and_no_proxy_spares() {
        let of = proxies(&[
            ("http_proxy", "plain:3128"),
            ("HTTPS_PROXY", "http://u%40x:geheim@secure:3129/"),
            (
                "no_proxy",
                ".corp.example,10.0.0.0/8, minio:9000 ,192.0.2.7:9000,[2001:db8::1]:9000,2001:db8::2,2001:db8:1::/48",
            ),
        ]);
        let found = |scheme, host| {
            of.towards(scheme, host)
                .unwrap()
                .map(|proxy| (proxy.host.clone(), proxy.port))
        };
        assert_eq!(found("http", "store.example"), Some(("plain".into(), 3128)));
        assert_eq!(found("https", "store.example"), Some(("secure".into(), 3129)));
        for spared in [
            "localhost",
            "api.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "minio",
            "192.0.2.7",
            "[2001:db8::1]",
            "2001:db8::2",
            "[2001:db8:1::9]",
            "s3.corp.example",
            "10.1.2.3",
            "169.254.169.254",
            "[fd00:ec2::254]",
        ] {
            assert_eq!(found("http", spared), None, "{spared}");
        }
        for other in ["192.0.2.8", "[2001:db8::3]", "128.0.0.1", "notlocalhost"] {
            assert!(found("http", other).is_some(), "{other}");
        }
        let proxy = of.towards("https", "a").unwrap().unwrap();
        assert_eq!(proxy.authorization().unwrap(), "Basic dUB4OmdlaGVpbQ==");
        assert!(!format!("{of:?} {proxy:?}").contains("geheim"));
    }

    #[test]
    fn a_star_spares_everything() {
        for spared in ["*", "a.example, *"] {
            let of = proxies(&[("ALL_PROXY", "http://all:1"), ("NO_PROXY", spared)]);
            for host in ["store.example", "203.0.113.9", "[2001:db8::1]"] {
                assert!(of.towards("https", host).unwrap().is_none(), "{spared} {host}");
            }
        }
    }

    #[test]
    fn all_proxy_is_for_what_has_none_of_its_own() {
        let of = proxies(&[
            ("ALL_PROXY", "http://all:1"),
            ("HTTP_PROXY", "http://plain:2"),
            ("https_proxy", ""),
        ]);
        assert_eq!(of.towards("http", "a").unwrap().unwrap().port, 2);
        assert_eq!(of.towards("https", "a").unwrap().unwrap().port, 1);
        assert!(proxies(&[]).is_empty() && proxies(&[]).towards("http", "a").unwrap().is_none());
    }

    #[test]
    fn a_proxy_of_another_kind_is_refused_and_not_passed_by() {
        for wrong in [
            "socks5://u:geheim@h:1080",
            "https://u:geheim@h:1080",
            "http://",
            "http://a b",
        ] {
            let error = proxies(&[("ALL_PROXY", wrong)]).towards("https", "a").unwrap_err();
            assert!(
                error.chain().contains("ALL_PROXY") && error.hint().is_some(),
                "{error:?}"
            );
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
    }
}
