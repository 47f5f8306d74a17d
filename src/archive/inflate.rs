//! Compressed bytes through `async-compression`: gzip members, and the zstd frames of indexes.
//!
//! The zstd frames of data have contexts of their own, which are made once for each worker (`pipeline`).

use std::io;

use async_compression::Level;
use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::tokio::write::GzipEncoder;
use async_compression::zstd::DParameter;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;

/// Largest window that is taken, as a power of two in bytes: that of level 19. A decoder holds a window in memory, however
/// little the frame then fills.
pub(super) const WINDOW_LOG: u32 = 23;

/// Appends bytes as one gzip member.
pub(crate) fn gzip(raw: &[u8], level: u32, out: &mut Vec<u8>) -> Result<()> {
    let level = Level::Precise(exact::known(level, "levels are 1 to 9"));
    let mut encoder = GzipEncoder::with_quality(out, level);
    at_once(async {
        encoder.write_all(raw).await?;
        encoder.shutdown().await
    })
    .context("compress frame")
}

/// Decompresses one gzip member that fills a buffer exactly; however much more it holds, no more is taken.
pub(crate) fn gunzip(member: &[u8], into: &mut [u8]) -> Result<()> {
    let mut decoder = GzipDecoder::new(member);
    let raw = into.len();
    let more = at_once(async {
        decoder.read_exact(into).await?;
        decoder.read(&mut [0]).await
    });
    match more.map_err(undecodable)? {
        0 => Ok(()),
        _ => Err(Error::corrupt(format!("frame has more than {raw} raw bytes"))),
    }
}

/// Decompresses one zstd frame of exactly `raw` bytes, which the caller has bounded.
pub(crate) async fn unzstd(frame: &[u8], raw: usize) -> Result<Vec<u8>> {
    let decoder = ZstdDecoder::with_params(frame, &[DParameter::window_log_max(WINDOW_LOG)]);
    let mut bytes = Vec::with_capacity(raw);
    let mut bounded = decoder.take(exact::u64_from(raw).saturating_add(1));
    bounded.read_to_end(&mut bytes).await.map_err(undecodable)?;
    if bytes.len() != raw || !bounded.into_inner().into_inner().is_empty() {
        return Err(Error::corrupt("index frame has another length than it claims"));
    }
    Ok(bytes)
}

/// The error of a frame that its decoder refuses.
pub(crate) fn undecodable(error: io::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "frame does not decompress").with_cause(error)
}

/// Runs what reads and writes memory alone, on a thread outside the runtime.
fn at_once<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    work.now_or_never().expect("memory makes nobody wait")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_gzip_member_comes_back_as_it_was() {
        for raw in [Vec::new(), b"abc".repeat(100_000)] {
            let mut member = b"before".to_vec();
            gzip(&raw, 9, &mut member).unwrap();
            let member = &member[6..];
            let mut back = vec![0; raw.len()];
            gunzip(member, &mut back).unwrap();
            assert_eq!(back, raw);
            // Its check sum stands behind the data.
            let mut damaged = member.to_vec();
            let at = damaged.len() - 8;
            damaged[at] ^= 1;
            for wrong in [&member[..member.len() - 1], &damaged] {
                assert_eq!(gunzip(wrong, &mut back).unwrap_err().kind(), ErrorKind::Corrupt);
            }
        }
    }

    #[test]
    fn a_member_that_holds_more_or_less_than_it_should_is_refused() {
        let mut member = Vec::new();
        gzip(&vec![0; 10 << 20], 1, &mut member).unwrap();
        for len in [(10 << 20) - 1, 0, (10 << 20) + 1] {
            let error = gunzip(&member, &mut vec![0; len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{len}");
        }
    }

    #[tokio::test]
    async fn an_index_frame_has_the_length_it_claims() {
        let raw = b"line\n".repeat(1000);
        let frame = zstd::bulk::compress(&raw, 1).unwrap();
        assert_eq!(unzstd(&frame, raw.len()).await.unwrap(), raw);
        let two = [frame.clone(), frame.clone()].concat();
        for (bytes, len) in [
            (&frame, raw.len() - 1),
            (&frame, raw.len() + 1),
            (&two, raw.len()),
            (&frame[..frame.len() - 1].to_vec(), raw.len()),
        ] {
            assert_eq!(unzstd(bytes, len).await.unwrap_err().kind(), ErrorKind::Corrupt);
        }
        // Whatever level wrote it.
        let large = vec![b'x'; 9 << 20];
        let frame = zstd::bulk::compress(&large, 19).unwrap();
        assert_eq!(unzstd(&frame, large.len()).await.unwrap(), large);
    }

    /// The window is what a decoder sets aside before it has seen a byte of data.
    #[tokio::test]
    async fn a_forged_window_is_refused() {
        // Magic number; a window descriptor follows and no size; the window is 2^(10 + exponent); an empty last block.
        let frame = |exponent: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, exponent << 3][..], &[0x01, 0, 0]].concat();
        assert_eq!(unzstd(&frame(13), 0).await.unwrap(), b"");
        for exponent in [14, 17, 21, 31] {
            let error = unzstd(&frame(exponent), 0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "window of 2^{} bytes", 10 + exponent);
        }
    }
}
