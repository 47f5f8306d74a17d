//! A small S3 server over a directory, for the demo, the benchmarks and trying wirevault out. Not for data you need.

#[path = "../tests/support/s3.rs"]
mod s3;

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;

/// Serves the subdirectories of a directory as S3 buckets.
#[derive(Debug, Parser)]
struct Arguments {
    /// The directory; every subdirectory is a bucket.
    #[arg(long)]
    root: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The one access key it knows.
    #[arg(long)]
    access_key: String,
    /// Its secret key.
    #[arg(long)]
    secret_key: String,
    /// Replaces objects on conditional writes, as some stores do.
    #[arg(long)]
    ignore_if_none_match: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let keys = (arguments.access_key.as_str(), arguments.secret_key.as_str());
    let address = (arguments.host.as_str(), arguments.port);
    let server = s3::S3Server::bind(&arguments.root, address, keys, arguments.ignore_if_none_match).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", server.address()?)?;
    out.flush()?;
    tokio::select! {
        () = server.serve() => Ok(()),
        stopped = tokio::signal::ctrl_c() => Ok(stopped?),
    }
}
