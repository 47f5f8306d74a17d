//! The keys of a source of kind `redis`.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::keys::{Key, section};

section! {
    /// A Redis or Valkey server, cluster or Sentinel group ([Redis and Valkey](redis.md)).
    pub struct RedisKeys {
        /// The server, as `redis://user@host:port`, `rediss://…` for TLS, or `unix:///path/of/the.sock`.
        url: String = Key::url().required().example("\"rediss://cache.example.org\"").variable("REDIS_URL"),
        /// A file whose first line is the password; default: `REDISCLI_AUTH`.
        password_file: Option<PathBuf> = Key::path().example("\"/etc/wirevault/cache.password\""),
        /// Client certificate in PEM form; needs `key`.
        cert: Option<String> = Key::path().parameter("cert").example("\"/etc/wirevault/client.pem\""),
        /// The private key of `cert`.
        key: Option<String> = Key::path().parameter("key").example("\"/etc/wirevault/client.key\""),
        /// CA certificates to trust for the server, instead of the system's.
        cacert: Option<String> = Key::path().parameter("cacert").example("\"/etc/wirevault/ca.pem\""),
        /// Whether `wirevault run` receives the server's command stream, as `log receive` does ([the log](redis.md#the-log-any-moment)).
        log: bool = Key::flag(),
        /// How far back the log is kept for restores to any moment; `prune` removes what is older than the snapshot before that.
        log_window: Option<Duration> = Key::duration().default("\"7d\"").example("\"30d\""),
        /// The server's data directory on this host: where `recover --at` brings it back by its log.
        data_directory: Option<PathBuf> = Key::path().example("\"/var/lib/redis\""),
    }
}
